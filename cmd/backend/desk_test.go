package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"meterline/testkit"
)

// desk is where somebody sits who follows a page: terminals in an empty directory with the repository's programs at hand.
// The commands of the page are not touched. Its addresses are others by what programs look at themselves: the environment, and
// the files in which curl and mosquitto keep their options. "go run" finds programs that are built already.
type desk struct {
	t         *testing.T
	dir       string
	http      string // host:port in place of 127.0.0.1:8080
	mqtt      string // and of 127.0.0.1:1883
	env       []string
	terminals map[string]*terminal
}

// goRun is the go of the desk. What it runs ends with the shell.
const goRun = `#!/bin/sh
[ "$1" = run ] && program=$BIN/${2#./cmd/} && shift 2 && exec setpriv --pdeathsig KILL "$program" "$@"
echo "only go run ./cmd/..." >&2
exit 1
`

func newDesk(t *testing.T) *desk {
	t.Helper()
	for _, program := range [][2]string{{"bash", "bash"}, {"curl", "curl"}, {"jq", "jq"}, {"mosquitto_pub", "mosquitto-clients"}, {"mosquitto_sub", "mosquitto-clients"}, {"setpriv", "util-linux"}} {
		testkit.Program(t, program[0], program[1])
	}
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{t: t, dir: t.TempDir(), http: "127.0.0.1:" + freePort(t), mqtt: "127.0.0.1:" + freePort(t), terminals: map[string]*terminal{}}
	home := t.TempDir()
	for name, text := range map[string]string{
		".curlrc":               "connect-to = 127.0.0.1:8080:" + d.http + "\n",
		".config/mosquitto_sub": "-p " + d.mqtt[len("127.0.0.1:"):] + "\n",
		".config/mosquitto_pub": "-p " + d.mqtt[len("127.0.0.1:"):] + "\n",
		"bin/go":                goRun,
	} {
		path := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil {
			t.Fatal(err)
		}
	}
	d.env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home+"/.config", "CURL_HOME="+home, "BIN="+bin, "PATH="+home+"/bin:"+os.Getenv("PATH"), "TZ=UTC", "LC_ALL=C.UTF-8",
		"METERLINE_HTTP="+d.http, "METERLINE_MQTT="+d.mqtt, "METERLINE_API=http://"+d.http, "METERLINE_BROKER="+d.mqtt)
	return d
}

// up waits until the backend that was started answers.
func (d *desk) up() {
	d.t.Helper()
	testkit.Eventually(d.t, waitMost, func() bool {
		answer, err := http.Get("http://" + d.http + "/readyz")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, "the backend of the page to answer")
}

// terminal is a shell. What it and its programs print is in said, in the order in which it came.
type terminal struct {
	desk  *desk
	stdin io.Writer
	ran   int // blocks

	mu   sync.Mutex
	said strings.Builder
	seen int           // bytes of said that were compared, with the addresses of the page
	more chan struct{} // one is in it when something came, closed when nothing will
}

// terminal is that of a name; it is opened when it is first asked for.
func (d *desk) terminal(name string) *terminal {
	d.t.Helper()
	if term := d.terminals[name]; term != nil {
		return term
	}
	term := &terminal{desk: d, more: make(chan struct{}, 1)}
	d.terminals[name] = term
	c := exec.Command("bash", "--norc", "--noprofile")
	c.Dir, c.Env = d.dir, d.env
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err := c.StdinPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	c.Stderr = c.Stdout
	if err := c.Start(); err != nil {
		d.t.Fatal(err)
	}
	term.stdin = in
	go term.listen(out)
	d.t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // a process group of our own
		for range term.more {                             // until nobody of it can print
		}
		_ = c.Wait() // it was killed
		if d.t.Failed() {
			d.t.Logf("terminal %q said:\n%s", name, term.said.String())
		}
	})
	return term
}

func (term *terminal) listen(out io.Reader) {
	defer close(term.more)
	b := make([]byte, 64<<10)
	for {
		n, err := out.Read(b)
		term.mu.Lock()
		term.said.Write(b[:n])
		term.mu.Unlock()
		if err != nil {
			return
		}
		select {
		case term.more <- struct{}{}:
		default:
		}
	}
}

// mark comes behind what a block printed; no program of a page prints it.
const mark = "\x1e"

// enter has the shell run a block, whose commands do not read what the next ones are.
func (term *terminal) enter(text string) error {
	term.ran++
	script := filepath.Join(term.desk.dir, fmt.Sprintf(".%p-%d", term, term.ran))
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		return err
	}
	_, err := fmt.Fprintf(term.stdin, "set -o pipefail -o errtrace; failed=0; trap 'failed=$?; echo \"status $failed of: $BASH_COMMAND\"' ERR\n"+
		". %q </dev/null; trap - ERR; rm %q; printf '%s%%s\\n' $failed\n", script, script, mark)
	return err
}

// ended waits until the block has run and gives what it printed.
func (term *terminal) ended() (printed string, err error) {
	status := ""
	err = term.until(func(said string) (int, bool) {
		end := strings.Index(said, mark)
		if end < 0 || !strings.Contains(said[end:], "\n") {
			return 0, false
		}
		printed = said[:end]
		status, _, _ = strings.Cut(said[end+len(mark):], "\n")
		return end + len(mark) + len(status) + 1, true
	})
	if err == nil && status != "0" {
		err = fmt.Errorf("a command failed; it printed\n%s", printed)
	}
	return printed, err
}

// shows waits until what the page says has appeared.
func (term *terminal) shows(text string) error {
	p := pattern(text, false)
	err := term.until(func(said string) (int, bool) {
		at := p.FindStringIndex(said)
		if at == nil {
			return 0, false
		}
		return at[1], true
	})
	if err != nil {
		return fmt.Errorf("the page says\n%s\n%w", text, err)
	}
	return nil
}

// asOnThePage has the addresses of the page, and no carriage returns: nobody sees them in a terminal.
func (d *desk) asOnThePage(text string) string {
	return strings.NewReplacer(d.http, "127.0.0.1:8080", d.mqtt, "127.0.0.1:1883", "\r", "").Replace(text)
}

// until waits until enough is content with what was said since the last time, and how much of it.
func (term *terminal) until(enough func(said string) (seen int, ok bool)) error {
	deadline := time.NewTimer(waitMost)
	defer deadline.Stop()
	for {
		term.mu.Lock()
		said := term.desk.asOnThePage(term.said.String())[term.seen:] // what was seen are whole lines
		seen, ok := enough(said)
		term.seen += seen
		term.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case _, open := <-term.more:
			if !open {
				return fmt.Errorf("the shell has ended, having said\n%s", said)
			}
		case <-deadline.C:
			return fmt.Errorf("waited for %s; it was\n%s", waitMost, said)
		}
	}
}
