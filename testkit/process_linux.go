package testkit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return exited
	}
	if err != nil {
		return running // it is this process that cannot open a file
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

// listens wants pid itself, and nobody else, to listen on an address of IPv4 (proc(5), /proc/pid/net/tcp and /proc/pid/fd).
func listens(pid int, addr string) error {
	at, err := netip.ParseAddrPort(addr)
	if err != nil || !at.Addr().Is4() {
		return fmt.Errorf("listen on %q: not a host of IPv4 and a port", addr)
	}
	home := filepath.Join("/proc", strconv.Itoa(pid))
	sockets, err := os.ReadFile(filepath.Join(home, "net/tcp"))
	if err != nil {
		return err
	}
	const local, state, inode, listening = 1, 3, 9, "0A"
	host := at.Addr().As4()
	kernels := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(host[:]), at.Port())
	for line := range strings.Lines(string(sockets)) {
		f := strings.Fields(line)
		if len(f) > inode && f[local] == kernels && f[state] == listening {
			return hasSocket(home, f[inode])
		}
	}
	return fmt.Errorf("nobody listens on %s", addr)
}

func hasSocket(home, inode string) error {
	files, err := filepath.Glob(filepath.Join(home, "fd", "*"))
	for _, file := range files {
		if to, err := os.Readlink(file); err == nil && to == "socket:["+inode+"]" {
			return nil
		}
	}
	return errors.Join(errors.New("somebody else listens there"), err)
}
