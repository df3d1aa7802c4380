package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"meterline/command"
)

// TestLifecycleTable compares the table of steps in command-lifecycle.md with the state machine in the code.
func TestLifecycleTable(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("command-lifecycle.md")
	if err != nil {
		t.Fatal(err)
	}
	documented, columns := map[command.State]map[command.State]bool{}, []string(nil)
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case cells[0] == `from \ to`:
			columns = cells
		case columns != nil && cells[0] == "":
			columns = nil // the table has ended
		case columns != nil && len(cells) == len(columns):
			to := map[command.State]bool{}
			for i, cell := range cells[1:] {
				to[command.State(columns[i+1])] = cell == "x"
			}
			documented[command.State(cells[0])] = to
		}
	}
	for _, from := range command.States {
		for _, to := range command.States {
			if got, want := documented[from][to], from.CanBecome(to); got != want {
				t.Errorf("%s to %s: the page says %t, the code %t", from, to, got, want)
			}
		}
	}
	if len(documented) != len(command.States)+1 { // and the rule below the head
		t.Errorf("the page has %d rows, the code %d states", len(documented)-1, len(command.States))
	}
}

// TestLifecycleDiagram checks that every arrow of the diagram is a step of the state machine and that no state is missing.
func TestLifecycleDiagram(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("command-lifecycle.md")
	if err != nil {
		t.Fatal(err)
	}
	_, diagram, found := strings.Cut(string(page), "stateDiagram-v2\n")
	diagram, _, closed := strings.Cut(diagram, "```")
	if !found || !closed {
		t.Fatal("the page has no state diagram")
	}
	reached := map[command.State]bool{}
	for _, arrow := range regexp.MustCompile(`(?m)^\s*(\S+) --> (\w+|\[\*\])`).FindAllStringSubmatch(diagram, -1) {
		from, to := arrow[1], command.State(arrow[2])
		reached[to] = true
		switch {
		case from == "[*]":
			if to != command.Queued {
				t.Errorf("the diagram lets operations begin as %s", to)
			}
		case to == "[*]":
			if command.State(from).Open() {
				t.Errorf("the diagram ends %s, which is open", from)
			}
		case from == "open":
			for _, s := range command.States {
				if s.Open() && !s.CanBecome(to) {
					t.Errorf("the diagram leads from every open state to %s, the code not from %s", to, s)
				}
			}
		default:
			if !command.State(from).CanBecome(to) {
				t.Errorf("the diagram leads from %s to %s, the code does not", from, to)
			}
		}
	}
	for _, s := range command.States {
		if !reached[s] {
			t.Errorf("the diagram lacks %s", s)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#\s]*)(?:#[^)]*)?\)`)

// TestLinks checks that what our pages link to inside the repository is there.
func TestLinks(t *testing.T) {
	t.Parallel()
	checked := 0
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() && file != ".." && (strings.HasPrefix(name, ".") || name == "node_modules") {
			return fs.SkipDir
		}
		if filepath.Ext(file) != ".md" {
			return nil
		}
		page, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, m := range link.FindAllStringSubmatch(string(page), -1) {
			if m[1] == "" || strings.Contains(m[1], "://") {
				continue
			}
			checked++
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, m[1], err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if checked == 0 {
		t.Error("no link was found: is the pattern right?")
	}
}

// TestIndex checks that README.md lists every page of this directory and those below, and what programs can read.
func TestIndex(t *testing.T) {
	t.Parallel()
	index, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{"README.md": true}
	for _, m := range link.FindAllStringSubmatch(string(index), -1) {
		listed[path.Clean(m[1])] = true
	}
	pages := 0
	err = filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if ext := filepath.Ext(file); ext == ".md" || ext == ".yaml" {
			pages++
			if !listed[filepath.ToSlash(file)] {
				t.Errorf("the index lacks %s", file)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 10 {
		t.Errorf("found only %d pages", pages)
	}
}
