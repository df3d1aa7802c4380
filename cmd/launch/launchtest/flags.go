// Package launchtest compares the flags that a program has with the page that documents them.
package launchtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// page is the page, seen from the directory of a program.
var page = filepath.Join("..", "..", "docs", "configuration.md")

// row is a flag in a table of the page: its name and its default.
var row = regexp.MustCompile("^\\| `--([a-z-]+)` \\|\\s*(.*?)\\s*\\|")

// FlagsDocumented fails when the page lacks a flag of one of the program's commands, has one that does not exist, or tells
// another default. The table of a command stands below a heading that is the command as it is typed: "## backend serve".
// Several commands may share a heading, separated by commas. cli is what the program hands to kong.
func FlagsDocumented(t *testing.T, program string, cli any) {
	t.Helper()
	parser, err := kong.New(cli, kong.Name(program))
	if err != nil {
		t.Fatal(err)
	}
	tables := tablesOf(t, program)
	for _, leaf := range parser.Model.Leaves(true) {
		compare(t, leaf.FullPath(), flagsOf(leaf), tables[leaf.FullPath()])
		delete(tables, leaf.FullPath())
	}
	if len(parser.Model.Leaves(true)) == 0 { // a program without commands
		compare(t, program, flagsOf(parser.Model.Node), tables[program])
		delete(tables, program)
	}
	for command := range tables {
		t.Errorf("%s has a heading for %s, which does not exist", page, command)
	}
}

func compare(t *testing.T, command string, has, documented map[string]string) {
	t.Helper()
	for flag, value := range has {
		said, ok := documented[flag]
		switch {
		case !ok:
			t.Errorf("%s lacks --%s of %s (default %q)", page, flag, command, value)
		case said != value:
			t.Errorf("%s: --%s of %s defaults to %q, the page says %q", page, flag, command, value, said)
		}
	}
	for flag := range documented {
		if _, ok := has[flag]; !ok {
			t.Errorf("%s has --%s of %s, which does not exist", page, flag, command)
		}
	}
}

// flagsOf lists the flags of a command with their defaults: "required" for one that must be given, "no" for a switch.
func flagsOf(n *kong.Node) map[string]string {
	flags := map[string]string{}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			value := f.Default
			switch {
			case f.Name == "help":
				continue
			case f.Required:
				value = "required"
			case f.IsBool() && value == "true":
				value = "yes"
			case f.IsBool():
				value = "no"
			}
			flags[f.Name] = value
		}
	}
	return flags
}

// tablesOf reads the page: per command of the program its flags and their defaults.
func tablesOf(t *testing.T, program string) map[string]map[string]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string]map[string]string{}
	var current []string
	for line := range strings.Lines(string(text)) {
		if heading, is := strings.CutPrefix(line, "## "); is {
			current = commandsOf(program, strings.TrimSpace(heading))
			for _, c := range current {
				tables[c] = map[string]string{}
			}
		}
		if m := row.FindStringSubmatch(line); m != nil {
			for _, c := range current {
				tables[c][m[1]] = strings.Trim(m[2], "` ")
			}
		}
	}
	return tables
}

// commandsOf is the commands of the program that a heading names, if any.
func commandsOf(program, heading string) (commands []string) {
	for part := range strings.SplitSeq(heading, ", ") {
		if part == program || strings.HasPrefix(part, program+" ") {
			commands = append(commands, part)
		}
	}
	return commands
}
