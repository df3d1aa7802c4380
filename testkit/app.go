package testkit

import (
	"context"
	"syscall"
	"testing"
	"time"
)

// Process is a process that was started here and may be broken. Its methods return when what they say is so. It dies with
// the process that started it.
type Process struct{ proc *process }

// Start starts the process, again with the files that it left, and returns when it is ready. One that was ready before and
// now ends before it is so again is started once more, for a minute: what it needs may not be there yet.
func (p Process) Start() error { return p.proc.restart(nil) }

// StartTelling is Start for somebody who waits: when the first try has failed, tell is called with the last line of the
// process's log and how long it is started again for.
func (p Process) StartTelling(tell func(said string, within time.Duration)) error {
	return p.proc.restart(tell)
}

// Ended says that the process has ended by itself, how, and its last words. It is nil while the process runs and when it
// was taken down.
func (p Process) Ended() error { return p.proc.hasEnded() }

// Stop ends the process in order. When it is down that does nothing.
func (p Process) Stop() error { return p.proc.stop() }

// Kill ends the process and its children by SIGKILL. When it is down that does nothing.
func (p Process) Kill() error { return p.proc.kill() }

// Pause lets the process and its children stand still: connections stay open, new ones are taken by the kernel, and nothing
// is answered.
func (p Process) Pause() error { return p.proc.freeze() }

// Resume ends Pause, and a stop that the process gave itself.
func (p Process) Resume() error { return p.proc.thaw() }

// PID is that of the running process; 0 when it is down, also when it ended by itself.
func (p Process) PID() int { return p.proc.pid() }

// PIDs are those of the running process and its children.
func (p Process) PIDs() []int {
	pid := p.PID()
	if pid == 0 {
		return nil
	}
	return append([]int{pid}, children(pid)...)
}

// Dir is where the process keeps its files.
func (p Process) Dir() string { return p.proc.home.path }

// Log is the file that the process logs to.
func (p Process) Log() string { return p.proc.logFile() }

// App is a program of ours as a process of its own.
type App struct {
	Process
}

// AppOptions say how to run a program.
type AppOptions struct {
	Name string   // of the log, Dir/Name.log
	Argv []string // the program and its arguments
	Env  []string // nil: that of this process
	Dir  string   // where it runs and logs
	// Listens are addresses, as 127.0.0.1:1883, that the program listens on once it can be used: the program itself, for
	// somebody else may answer there while it has ended because of that.
	Listens []string
	// Ready, if there is one, returns nil once the program can be used. It is asked after Listens.
	Ready func(context.Context) error
}

// NewApp prepares a program; Start starts it.
func NewApp(o AppOptions) *App {
	return &App{Process{&process{
		name: o.Name, argv: o.Argv, env: o.Env, home: &home{path: o.Dir},
		dieWith: syscall.SIGKILL, stopWith: syscall.SIGTERM, listens: o.Listens, ready: o.Ready,
	}}}
}

// Use makes the next start run the program at path, with the same arguments.
func (p *App) Use(path string) {
	p.proc.mu.Lock()
	defer p.proc.mu.Unlock()
	p.proc.argv[0] = path
}

// Scratch makes a directory that is removed by remove, or when this process ends, however that is. Keep remove for as long
// as the directory is to be there.
func Scratch(name string) (path string, remove func() error, err error) {
	h, err := newHome(name, nil)
	if err != nil {
		return "", nil, err
	}
	return h.path, h.remove, nil
}

// NewDatabase makes an empty database on the server of adminURL and gives its URL.
func NewDatabase(adminURL, name string) (string, error) {
	databaseURL, _, err := createDatabase(adminURL, name)
	return databaseURL, err
}

// ModuleRoot is the directory of go.mod, above the working directory.
func ModuleRoot() (string, error) { return moduleRoot() }

// Need ends the test when err is not nil: skipped when it is that of a server which is not installed and nobody insists, failed otherwise.
func Need(t testing.TB, err error) {
	t.Helper()
	need(t, err)
}
