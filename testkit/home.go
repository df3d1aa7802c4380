package testkit

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"

	"math/rand/v2"
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

// freePort finds a port on 127.0.0.1 that nobody listens on. It stays below the range that systems take outgoing
// connections from, so that nobody gets it while its server is down between Stop and Start. This process gets it once: whoever
// asks next may do so before the one who was given it listens, or while its server is down.
func freePort() (int, error) {
	const from, to = 20000, 32000
	for range 100 {
		port := from + rand.IntN(to-from)
		if _, given := givenPorts.LoadOrStore(port, true); given {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, errors.New("find a free port: none in 100 tries")
}

var givenPorts sync.Map // port → true

// portTries is how often a server is started before its error is believed: another process may take the port between
// freePort and the server's own bind.
const portTries = 3
