package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// home is the temporary directory of a server. It is removed by a janitor, a shell that waits for the other end of its
// standard input to close: so it goes with this process even when that is killed, and no test needs a TestMain.
type home struct {
	path    string
	leash   *os.File // closing it lets the janitor loose
	janitor *exec.Cmd
}

// A server that is dying may still write while its files are removed: the janitor tries again for a while.
const janitorScript = `cat >/dev/null
n=0
until rm -rf -- "$1" 2>/dev/null || [ "$n" -ge 100 ]; do
	n=$((n + 1))
	sleep 0.1
done`

// newHome makes a directory for user (nil: the user of this process).
func newHome(name string, user *syscall.Credential) (*home, error) {
	path, err := os.MkdirTemp("", "meterline-"+name+"-")
	if err != nil {
		return nil, fmt.Errorf("make directory of %s: %w", name, err)
	}
	h := &home{path: path}
	if user != nil {
		if err := os.Chown(path, int(user.Uid), int(user.Gid)); err != nil {
			return nil, errors.Join(fmt.Errorf("give directory to the user of %s: %w", name, err), os.Remove(path))
		}
	}
	end, leash, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("leash janitor: %w", err), os.Remove(path))
	}
	h.leash = leash
	h.janitor = exec.Command("/bin/sh", "-c", janitorScript, "janitor", path)
	h.janitor.Stdin = end
	h.janitor.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends the tests; the janitor cleans up after them
	err = h.janitor.Start()
	_ = end.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start janitor: %w", err), leash.Close(), os.Remove(path))
	}
	return h, nil
}

// remove removes the directory now and returns when it is gone.
func (h *home) remove() error {
	_ = h.leash.Close()
	if err := h.janitor.Wait(); err != nil {
		return fmt.Errorf("remove %s: %w", h.path, err)
	}
	return nil
}
