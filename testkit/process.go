package testkit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startWithin = 60 * time.Second // PostgreSQL replays its log after a kill, on a machine that is busy with tests
	stopWithin  = 60 * time.Second // after that a server that was asked to stop is killed
	pollEvery   = 20 * time.Millisecond

	lastWordsBytes = 4000
)

// process is one server that was started by this process and can be started again with the same arguments, files and
// port. No goroutine waits for it while it runs, so it does not show up in leak checks.
type process struct {
	// Fixed after construction.
	name     string
	argv     []string
	env      []string // nil: that of this process
	home     *home
	as       *syscall.Credential // nil: the user of this process
	dieWith  syscall.Signal      // what the kernel sends when this process dies
	stopWith syscall.Signal      // asks for an orderly end
	listens  []string            // addresses that it must listen on to be ready
	ready    func(context.Context) error

	mu    sync.Mutex
	cmd   *exec.Cmd // nil while the server is down
	from  int64     // where its log begins to be that of the last start
	been  bool      // ready, once
	ended error     // since the last start, by itself
}

// start starts the server and returns once it answers. Starting a running server is an error.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone() {
		return fmt.Errorf("start %s: it is running", p.name)
	}
	log, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open log of %s: %w", p.name, err)
	}
	defer log.Close() //nolint:errcheck // the server holds its own descriptor of it
	if p.from, err = log.Seek(0, io.SeekEnd); err != nil {
		return fmt.Errorf("measure log of %s: %w", p.name, err)
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Dir = p.home.path // the current directory may be closed to the user the server runs as
	cmd.Stdout, cmd.Stderr, cmd.Env = log, log, p.env
	cmd.SysProcAttr = attributes(p.as, p.dieWith)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.ended = cmd, nil

	ctx, cancel := context.WithTimeout(context.Background(), startWithin)
	defer cancel()
	err = poll(ctx, func() error {
		err := p.answers(ctx)
		if p.gone() { // whoever has answered is somebody else
			return p.ended
		}
		return err
	})
	if err == nil {
		p.been = true
		return nil
	}
	if !errors.Is(err, errGone) {
		_ = p.end(syscall.SIGKILL)
		err = fmt.Errorf("%w\n%s", err, p.lastWords())
	}
	return fmt.Errorf("start %s: %w", p.name, err)
}

// answers asks once whether the server is ready. It needs p.mu.
func (p *process) answers(ctx context.Context) error {
	for _, addr := range p.listens {
		if err := listens(p.cmd.Process.Pid, addr); err != nil {
			return err
		}
	}
	if p.ready == nil {
		return nil
	}
	return p.ready(ctx)
}

// restart is start for a server that may have been up before. What a killed server left behind may refuse the new one for
// a moment: PostgreSQL does not start before the last process of its predecessor is gone. tell, which may be nil, hears of
// the first try that failed: the last that the server said, and how long it is tried for.
func (p *process) restart(tell func(said string, within time.Duration)) error {
	deadline := time.Now().Add(startWithin)
	tick := time.NewTicker(10 * pollEvery)
	defer tick.Stop()
	for {
		err := p.start()
		if !errors.Is(err, errGone) || !p.wasReady() || time.Now().After(deadline) {
			return err
		}
		if tell != nil {
			words := strings.TrimSpace(p.lastWords())
			tell(words[strings.LastIndexByte(words, '\n')+1:], startWithin)
			tell = nil
		}
		<-tick.C
	}
}

func (p *process) wasReady() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.been
}

// gone says whether the server is down, and takes note when it is so by itself. It needs p.mu.
func (p *process) gone() bool {
	if p.cmd == nil {
		return true
	}
	if state(p.cmd.Process.Pid) != exited {
		return false
	}
	_ = p.cmd.Wait() // the status is in ProcessState
	p.ended = fmt.Errorf("%w: %s\n%s", errGone, p.cmd.ProcessState, p.lastWords())
	p.cmd = nil
	return true
}

func (p *process) hasEnded() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone() && p.ended != nil {
		return fmt.Errorf("%s: %w", p.name, p.ended)
	}
	return nil
}

// stop asks the server to end and waits until it has. Stopping a server that is down does nothing.
func (p *process) stop() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.end(p.stopWith)
}

// kill ends the server and its children without notice and waits until all are gone. It is stopped first, so that it
// neither makes new children meanwhile nor sees the old ones end.
func (p *process) kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone() {
		return nil
	}
	if err := p.halt(); err != nil {
		return err
	}
	killed := children(p.cmd.Process.Pid)
	for _, pid := range killed {
		_ = syscall.Kill(pid, syscall.SIGKILL) // theirs until their parent waits for them, which is halted
	}
	if err := p.end(syscall.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return poll(ctx, func() error {
		for _, pid := range killed {
			if state(pid) != exited {
				return fmt.Errorf("kill %s: its child %d is still there", p.name, pid)
			}
		}
		return nil
	})
}

// close ends the server and removes its files.
func (p *process) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.end(p.dieWith), p.home.remove())
}

// pause stops the server's execution: connections stay open and nothing answers.
func (p *process) pause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halt()
}

// halt needs p.mu.
func (p *process) halt() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopWithin)
	defer cancel()
	return poll(ctx, func() error {
		if s := state(p.cmd.Process.Pid); s == running {
			return fmt.Errorf("pause %s: still running", p.name)
		}
		return nil
	})
}

func (p *process) resume() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.signal(syscall.SIGCONT)
}

// pid is that of the running process; 0 when it is down, also by itself.
func (p *process) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone() {
		return 0
	}
	return p.cmd.Process.Pid
}

// freeze is pause for a server that answers by its children: they are halted after it, so that it makes no new ones.
func (p *process) freeze() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.halt(); err != nil {
		return err
	}
	for _, pid := range children(p.cmd.Process.Pid) {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // one that has ended meanwhile answers nothing either
	}
	return nil
}

// thaw ends freeze.
func (p *process) thaw() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		for _, pid := range children(p.cmd.Process.Pid) {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	return p.signal(syscall.SIGCONT)
}

// signal needs p.mu.
func (p *process) signal(s syscall.Signal) error {
	if p.gone() {
		return fmt.Errorf("signal %s: it is down", p.name)
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", p.name, err)
	}
	return nil
}

// end sends s, waits for the process and kills it when it takes too long. It needs p.mu.
func (p *process) end(s syscall.Signal) error {
	if p.gone() {
		return nil
	}
	cmd := p.cmd
	p.cmd = nil
	_ = cmd.Process.Signal(s)
	if s != syscall.SIGKILL {
		_ = cmd.Process.Signal(syscall.SIGCONT) // a paused process would not see s
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // the status of a server that was told to die says nothing
	}()
	select {
	case <-done:
		return nil
	case <-time.After(stopWithin):
		_ = cmd.Process.Kill()
		<-done
		return fmt.Errorf("stop %s: killed after %s", p.name, stopWithin)
	}
}

func (p *process) logFile() string { return filepath.Join(p.home.path, p.name+".log") }

// crash is how a Go program begins to say that it crashed. The stacks that follow may be long.
var crash = regexp.MustCompile(`(?m)^(panic|fatal error|runtime|SIG[A-Z]+): `)

// lastWords is the end of what the server has logged since its last start, or the beginning of its crash.
func (p *process) lastWords() string {
	b, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	b = b[min(p.from, int64(len(b))):]
	if at := crash.FindIndex(b); at != nil {
		b = b[at[0]:min(at[0]+lastWordsBytes, len(b))]
	}
	return string(bytes.TrimSpace(b[max(0, len(b)-lastWordsBytes):]))
}

// errGone ends a poll at once: what it waits for cannot come any more.
var errGone = errors.New("the process has exited")

// poll calls check until it returns nil, errGone or ctx is over; then the last error of check is returned.
func poll(ctx context.Context, check func() error) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := check()
		if err == nil || errors.Is(err, errGone) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}
