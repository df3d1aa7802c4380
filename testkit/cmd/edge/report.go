//go:build linux

package main

import (
	"fmt"
	"io"
	"strings"

	"meterline/testkit/machine"
)

// report is what a run says, on standard output as Markdown and in the file of --json.
type report struct {
	machine.Head
	Findings []finding `json:"findings"`
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
