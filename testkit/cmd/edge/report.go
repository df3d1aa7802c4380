//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// report is what a run says, on standard output as Markdown and in the file of --json.
type report struct {
	Command  string    `json:"command"`
	Commit   string    `json:"commit"`
	Machine  machine   `json:"machine"`
	Began    time.Time `json:"began"`
	Seconds  float64   `json:"seconds"`
	Findings []finding `json:"findings"`
}

// machine is where and on what it was measured.
type machine struct {
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

// finding is what one case came to.
type finding struct {
	Case    string  `json:"case"`
	Options any     `json:"options"`
	Void    string  `json:"void,omitempty"` // why the figures count for nothing
	Seconds float64 `json:"seconds"`
	Table   table   `json:"table"`
	Rows    any     `json:"rows"` // the same with all figures
}

// table is for people.
type table struct {
	Title string     `json:"title"`
	Head  []string   `json:"head"`
	Cells [][]string `json:"cells"`
	Notes []string   `json:"notes,omitempty"`
}

func (t *table) add(cells ...string) { t.Cells = append(t.Cells, cells) }

func (t *table) note(format string, args ...any) {
	t.Notes = append(t.Notes, fmt.Sprintf(format, args...))
}

func (f finding) print(w io.Writer) {
	fmt.Fprintf(w, "\n### %s: %s\n\n", f.Case, f.Table.Title)
	if f.Void != "" {
		fmt.Fprintf(w, "**VOID**: %s\n\n", f.Void)
	}
	row := func(cells []string) { fmt.Fprintln(w, "| "+strings.Join(cells, " | ")+" |") }
	row(f.Table.Head)
	fmt.Fprintln(w, strings.Repeat("|---", len(f.Table.Head))+"|")
	for _, cells := range f.Table.Cells {
		row(cells)
	}
	for _, note := range f.Table.Notes {
		fmt.Fprintf(w, "\n%s\n", note)
	}
}

func (r report) print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "\n%d cores (%s), %d MiB, Linux %s, %s, mochi %s, PostgreSQL %s, Redis %s, commit %s, %s, %.0f s; load before it %s\n",
		m.Cores, m.CPU, m.MemoryMiB, m.Kernel, m.Go, m.Mochi, m.PostgreSQL, m.Redis, r.Commit, r.Began.UTC().Format(time.RFC3339), r.Seconds, m.Load)
}

func (r report) write(file string) error {
	out, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.WriteFile(file, append(out, '\n'), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}

func thisMachine() machine {
	m := machine{
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
	_, _ = fmt.Sscan(procValue("/proc/meminfo", "MemTotal"), &m.MemoryMiB)
	m.MemoryMiB >>= 10
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			if d.Path == "github.com/mochi-mqtt/server/v2" {
				m.Mochi = d.Version
			}
		}
	}
	return m
}

// commit names what is measured; the tree may be ahead of it.
func commit() string {
	hash := said("git", "rev-parse", "--short=12", "HEAD")
	if hash != "" && said("git", "status", "--porcelain", "--untracked-files=no") != "" {
		hash += " and changes"
	}
	return hash
}

// said is what a command prints, "" when it fails: what it is asked for is good to know, no more.
func said(program string, args ...string) string {
	out, err := exec.Command(program, args...).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

func procValue(file, key string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
