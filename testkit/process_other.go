//go:build unix && !linux

package testkit

import (
	"errors"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// attributes: only Linux can let a child die with its parent; elsewhere a test process that is killed leaves its
// servers behind.
func attributes(as *syscall.Credential, _ syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true}
}

type procState int

const (
	running procState = iota
	paused
	exited // and not yet waited for
)

// state asks ps(1), which every unix has.
func state(pid int) procState {
	out, err := exec.Command("ps", "-o", "state=", "-p", strconv.Itoa(pid)).Output()
	switch s := strings.TrimSpace(string(out)); {
	case err != nil, strings.HasPrefix(s, "Z"):
		return exited
	case strings.HasPrefix(s, "T"):
		return paused
	}
	return running
}

// children asks pgrep(1).
func children(pid int) []int {
	out, err := exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	if err != nil {
		return nil
	}
	var pids []int
	for field := range strings.FieldsSeq(string(out)) {
		if child, err := strconv.Atoi(field); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}

// listens cannot tell who it is that listens.
func listens(_ int, addr string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	return c.Close()
}

var errNoProc = errors.New("only Linux has /proc")

// processorTime cannot be told.
func processorTime(int, bool) (time.Duration, error) { return 0, errNoProc }

// residentMemory cannot be told.
func residentMemory(int) (now, most int64, err error) { return 0, 0, errNoProc }
