//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const ticksPerSec = 100 // USER_HZ, which /proc counts in on every Linux

// cpu is the processor time that the broker has used so far (proc(5), /proc/pid/stat).
func (t *target) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(t.proc("stat"))
	if err != nil {
		return 0, fmt.Errorf("processor time of %s: %w", t.name, err)
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:]) // from the third on
	if len(fields) < 13 {
		return 0, fmt.Errorf("processor time of %s: %q", t.name, stat)
	}
	user, err1 := strconv.Atoi(string(fields[11]))
	system, err2 := strconv.Atoi(string(fields[12]))
	return time.Duration(user+system) * time.Second / ticksPerSec, errors.Join(err1, err2)
}

// memory is what the kernel says of its resident memory in bytes: now, and the most it ever was.
func (t *target) memory() (now, most int64, err error) {
	status, err := os.ReadFile(t.proc("status"))
	if err != nil {
		return 0, 0, fmt.Errorf("memory of %s: %w", t.name, err)
	}
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 10, 64)
		switch key {
		case "VmRSS":
			now = kib << 10
		case "VmHWM":
			most = kib << 10
		}
	}
	if now == 0 {
		return 0, 0, fmt.Errorf("memory of %s: the kernel does not say", t.name)
	}
	return now, most, nil
}

// files is how many file descriptors it has open.
func (t *target) files() int {
	open, err := os.ReadDir(t.proc("fd"))
	if err != nil {
		return 0
	}
	return len(open)
}

func (t *target) proc(file string) string {
	return filepath.Join("/proc", strconv.Itoa(t.PID()), file)
}
