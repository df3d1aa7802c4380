//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strconv"
)

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
