package testkit

import (
	"bytes"
	"os"
	"strconv"
	"syscall"
)

// attributes lets the child die with this process, whatever ends it, and keeps the terminal's Ctrl-C away from it. The
// kernel ties the death signal to the thread that forked; Go ends a thread only when a goroutine that was locked to it
// returns, which the callers here never are.
func attributes(as *syscall.Credential, dieWith syscall.Signal) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: as, Setpgid: true, Pdeathsig: dieWith}
}

type procState int

const (
	running procState = iota
	paused
	exited // and not yet waited for
)

// state reads what the kernel says of a child (proc(5), /proc/pid/stat). Waiting for it is left to its owner.
func state(pid int) procState {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return exited
	}
	after := stat[bytes.LastIndexByte(stat, ')')+1:] // the name before it may hold anything
	switch bytes.TrimSpace(after)[0] {
	case 'T', 't':
		return paused
	case 'Z', 'X':
		return exited
	}
	return running
}

// children lists the processes that pid has forked, while it is halted (proc(5), /proc/pid/task/tid/children).
func children(pid int) []int {
	id := strconv.Itoa(pid)
	list, err := os.ReadFile("/proc/" + id + "/task/" + id + "/children")
	if err != nil {
		return nil
	}
	var pids []int
	for field := range bytes.FieldsSeq(list) {
		if child, err := strconv.Atoi(string(field)); err == nil {
			pids = append(pids, child)
		}
	}
	return pids
}
