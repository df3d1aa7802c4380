// Package machine says where and on what something was measured.
package machine

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
)

// Machine is a machine and the versions of what runs on it. What cannot be found out is empty.
type Machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	MemoryMiB  int64  `json:"memory_mib"`
	Kernel     string `json:"kernel"`
	Go         string `json:"go"`
	Mochi      string `json:"mochi"`
	PostgreSQL string `json:"postgresql"`
	Redis      string `json:"redis"`
	Load       string `json:"load"` // averages over 1, 5 and 15 minutes when it began: others were at work where they are not near 0
}

// String is a line for people, without what load there was.
func (m Machine) String() string {
	return fmt.Sprintf("%d cores (%s), %d MiB, Linux %s, %s, mochi %s, PostgreSQL %s, Redis %s",
		m.Cores, m.CPU, m.MemoryMiB, m.Kernel, m.Go, m.Mochi, m.PostgreSQL, m.Redis)
}

// This is the machine that this process runs on.
func This() Machine {
	m := Machine{
		Cores: runtime.NumCPU(), Go: runtime.Version(), CPU: procValue("/proc/cpuinfo", "model name"),
		Kernel: said("uname", "-r"), PostgreSQL: said("sh", "-c", "ls /usr/lib/postgresql | sort -n | tail -1"),
		Mochi: "unknown",
	}
	if _, rest, ok := strings.Cut(said("redis-server", "--version"), "v="); ok {
		m.Redis, _, _ = strings.Cut(rest, " ")
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load = strings.Join(strings.Fields(string(load))[:3], " ")
	}
	m.MemoryMiB = memoryMiB()
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/mochi-mqtt/server/v2" {
				m.Mochi = d.Version
			}
		}
	}
	return m
}

// Commit names what is measured; the tree may be ahead of it, which it says.
func Commit() string {
	hash := said("git", "rev-parse", "--short=12", "HEAD")
	if hash != "" && said("git", "status", "--porcelain", "--untracked-files=no") != "" {
		hash += " and changes"
	}
	return hash
}

// Named is the commit that a name of git means, in the form of Commit.
func Named(ref string) string { return said("git", "rev-parse", "--short=12", ref+"^{commit}") }

// said is what a command prints, "" when it fails: what it is asked for is good to know, no more.
func said(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
