package main

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// decoders.txt lists what turns bytes from outside into something: on each line a file, and the names of functions when
// it is not the whole file that decodes.
//
//go:embed decoders.txt
var decoderList string

// decoder is one line of the list.
type decoder struct {
	file  string
	names []string // none: every function of the file
}

func decoders(list string) (all []decoder) {
	for line := range strings.Lines(list) {
		line, _, _ = strings.Cut(line, "#")
		if words := strings.Fields(line); len(words) > 0 {
			all = append(all, decoder{words[0], words[1:]})
		}
	}
	return all
}

// block is a piece of code as cover profiles know it: file.go:line.column,line.column.
type block struct {
	place      string
	statements int
}

// profile says how often each block ran.
type profile map[block]int

func (p profile) merge(other profile) {
	for b, n := range other {
		p[b] = max(p[b], n)
	}
}

// parseProfile reads the text form of a cover profile; places are relative to the module.
func parseProfile(text []byte, module string) (profile, error) {
	p := profile{}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "mode:") {
			continue
		}
		var b block
		var n int
		if _, err := fmt.Sscan(lines.Text(), &b.place, &b.statements, &n); err != nil {
			return nil, fmt.Errorf("cover profile: %q: %w", lines.Text(), err)
		}
		b.place = strings.TrimPrefix(b.place, module+"/")
		p[b] = max(p[b], n)
	}
	return p, lines.Err()
}

// share is how much of something ran.
type share struct{ ran, all int }

func (s share) percent() float64 {
	if s.all == 0 {
		return 100
	}
	return 100 * float64(s.ran) / float64(s.all)
}

// functions are the decoder's functions with the lines they cover.
func (d decoder) functions(root string) (map[string][2]int, error) {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, filepath.Join(root, d.file), nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	found := map[string][2]int{}
	for _, declared := range parsed.Decls {
		f, ok := declared.(*ast.FuncDecl)
		if ok && (len(d.names) == 0 || slices.Contains(d.names, f.Name.Name)) {
			found[f.Name.Name] = [2]int{files.Position(f.Pos()).Line, files.Position(f.End()).Line}
		}
	}
	for _, name := range d.names {
		if _, ok := found[name]; !ok {
			return nil, fmt.Errorf("%s has no function %s", d.file, name)
		}
	}
	return found, nil
}

// of says how much of the decoder's functions ran.
func (p profile) of(d decoder, root string) (map[string]share, error) {
	lines, err := d.functions(root)
	if err != nil {
		return nil, err
	}
	shares := map[string]share{}
	for name := range lines {
		shares[name] = share{}
	}
	for b, n := range p {
		rest, ok := strings.CutPrefix(b.place, d.file+":")
		if !ok {
			continue
		}
		var line int
		if _, err := fmt.Sscanf(rest, "%d.", &line); err != nil {
			return nil, fmt.Errorf("cover profile: %q: %w", b.place, err)
		}
		for name, within := range lines {
			if line < within[0] || line > within[1] {
				continue
			}
			s := shares[name]
			s.all += b.statements
			if n > 0 {
				s.ran += b.statements
			}
			shares[name] = s
		}
	}
	return shares, nil
}

// coverage runs the committed inputs and prints what of the decoders they reach.
func coverage(ctx context.Context, o options, targets []target, out io.Writer) error {
	all, reached := decoders(decoderList), profile{}
	byDir := map[string][]target{}
	for _, t := range targets {
		byDir[t.dir] = append(byDir[t.dir], t)
	}
	for _, dir := range slices.Sorted(maps.Keys(byDir)) {
		binary, err := compile(ctx, o, byDir[dir][0], "-coverpkg="+packages(all))
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		var names []string
		for _, t := range byDir[dir] {
			names = append(names, t.name)
		}
		p, err := profileOf(ctx, binary, filepath.Join(o.root, dir), "^("+strings.Join(names, "|")+")$")
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		reached.merge(p)
	}
	return report(o, all, reached, out)
}

// packages are those of the decoders, for -coverpkg.
func packages(all []decoder) string {
	dirs := map[string]bool{}
	for _, d := range all {
		dirs["./"+filepath.Dir(d.file)] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(dirs)), ",")
}

const module = "meterline"

// profileOf runs a test binary and reads its cover profile.
func profileOf(ctx context.Context, binary, dir, run string) (profile, error) {
	f, err := os.CreateTemp("", "fuzz-cover-*")
	if err != nil {
		return nil, err
	}
	_ = f.Close()
	defer func() { _ = os.Remove(f.Name()) }()
	cmd := exec.CommandContext(ctx, binary, "-test.run="+run, "-test.coverprofile="+f.Name(), "-test.timeout=5m")
	cmd.Dir = dir
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run the committed inputs: %w\n%s", err, text)
	}
	text, err := os.ReadFile(f.Name())
	if err != nil {
		return nil, err
	}
	return parseProfile(text, module)
}

// report prints the functions and, for each decoder and all of them, the share of statements.
func report(o options, all []decoder, reached profile, out io.Writer) error {
	var errs []error
	var whole share
	for _, d := range all {
		shares, err := reached.of(d, o.root)
		if err != nil {
			return err
		}
		var sum share
		for _, name := range slices.Sorted(maps.Keys(shares)) {
			s := shares[name]
			sum.ran, sum.all = sum.ran+s.ran, sum.all+s.all
			fmt.Fprintf(out, "%-36s %-24s %4d/%-4d %5.1f %%\n", d.file, name, s.ran, s.all, s.percent())
		}
		whole.ran, whole.all = whole.ran+sum.ran, whole.all+sum.all
		if sum.percent() < o.least {
			errs = append(errs, fmt.Errorf("%s: %.1f %% of the decoder is covered, want %.0f", d.file, sum.percent(), o.least))
		}
	}
	fmt.Fprintf(out, "%-61s %4d/%-4d %5.1f %%\n", "all decoders", whole.ran, whole.all, whole.percent())
	return errors.Join(errs...)
}
