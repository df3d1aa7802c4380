package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Pages whose commands work. Each block of a shell is run as it stands, and what stands below it is what it prints:
//
//	```sh          runs to its end in the shell of the page, with status 0 of every command
//	```sh meter    runs on in a shell of its own, named meter: another terminal
//	```text        what the block above printed; any language but sh
//	```text meter  what has appeared in that terminal since the last such block
//
// In what is printed … stands for anything within a line, and alone in a line for any number of lines.

// A block is a fenced block of a page.
type block struct {
	line     int    // of its first line in the page
	language string // sh: to be run
	terminal string // "": that of the page
	text     string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]+)(?: ([a-z]+))?\n(.*?)^```$")

// blocksOf are the blocks of a page from one heading to the next of its kind, or of all of it.
func blocksOf(t *testing.T, page, heading string) (blocks []block) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	text, begin, end := string(b), 0, len(b)
	if heading != "" {
		if begin = strings.Index(text, "\n"+heading+"\n"); begin < 0 {
			t.Fatalf("%s has no %q", page, heading)
		}
		if length := strings.Index(text[begin+len(heading):], "\n## "); length >= 0 {
			end = begin + len(heading) + length
		}
	}
	for _, m := range fence.FindAllStringSubmatchIndex(text[begin:end], -1) {
		part := func(i int) string {
			if m[i] < 0 {
				return ""
			}
			return text[begin+m[i] : begin+m[i+1]]
		}
		blocks = append(blocks, block{1 + strings.Count(text[:begin+m[6]], "\n"), part(2), part(4), part(6)})
	}
	if opened := strings.Count(text[begin:end], "\n```"); opened != 2*len(blocks) {
		t.Fatalf("%s: %d lines begin with a fence, and there are %d blocks: is each one opened and closed at the margin, with a language?", page, opened, len(blocks))
	}
	return blocks
}

// play runs the blocks of a page and compares what they print.
func play(t *testing.T, page, heading string) {
	t.Helper()
	blocks, d := blocksOf(t, page, heading), newDesk(t)
	for i := 0; i < len(blocks); i++ {
		b := blocks[i]
		where := func(b block) string { return fmt.Sprintf("%s:%d", page, b.line) }
		term := d.terminal(b.terminal)
		if b.language != "sh" { // not below the block that prints it: it has appeared meanwhile
			if err := term.shows(b.text); err != nil {
				t.Fatalf("%s: %v", where(b), err)
			}
			continue
		}
		printed := i+1 < len(blocks) && blocks[i+1].language != "sh" && blocks[i+1].terminal == b.terminal
		if err := term.enter(b.text); err != nil {
			t.Fatalf("%s: %v", where(b), err)
		}
		if b.terminal == "" {
			got, err := term.ended()
			if err != nil {
				t.Fatalf("%s: %v", where(b), err)
			}
			if printed {
				i++
				if !pattern(blocks[i].text, true).MatchString(got) {
					t.Fatalf("%s: the page says\n%s\nit was\n%s", where(blocks[i]), blocks[i].text, got)
				}
			}
		}
		if i == 0 && !printed {
			d.up()
		}
	}
}

// pattern is what a block of output stands for: a beginning of what is printed, or the whole.
func pattern(text string, whole bool) *regexp.Regexp {
	var p strings.Builder
	p.WriteString(`\A`)
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "…" {
			p.WriteString(`(?:.*\n)*?`)
			continue
		}
		p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", `.+?`))
	}
	if whole {
		p.WriteString(`\z`)
	}
	return regexp.MustCompile(p.String())
}

// The tutorial does what it says.
func TestTutorial(t *testing.T) {
	t.Parallel()
	play(t, "docs/tutorial.md", "")
}

// The calls of the API guide answer what it says.
func TestAPIGuide(t *testing.T) {
	t.Parallel()
	play(t, "docs/api-guide.md", "")
}

// So does the meter that is played by hand in the README.
func TestReadmeByHand(t *testing.T) {
	t.Parallel()
	play(t, "README.md", "## By hand")
}
