package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
)

// distil copies inputs from the cache to a target's testdata/fuzz: the smallest first, and only those that reach a block
// which nothing before them did.
func distil(ctx context.Context, o options, targets []target, out io.Writer) error {
	for _, t := range targets {
		kept, err := distilOne(ctx, o, t)
		if err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		fmt.Fprintf(out, "%-32s %d inputs kept\n", t, kept)
	}
	return nil
}

// beside is code of others that inputs are worth keeping for: what a connection passes before and after ours.
const beside = "github.com/mochi-mqtt/server/v2/..."

func distilOne(ctx context.Context, o options, t target) (kept int, err error) {
	binary, err := compile(ctx, o, t, "-coverpkg="+packages(decoders(decoderList))+","+beside)
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(o.root, t.dir)
	reached, err := profileOf(ctx, binary, dir, "^"+t.name+"$")
	if err != nil {
		return 0, err
	}
	found, err := inputs(filepath.Join(t.found(o), t.name))
	if err != nil {
		return 0, err
	}
	stage, err := newStage(dir)
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(stage) }()
	for _, input := range found {
		one, err := alone(ctx, binary, stage, t.name, input)
		if err != nil {
			return kept, err
		}
		if !reached.grows(one) {
			continue
		}
		reached.merge(one)
		kept++
		if err := copyTo(filepath.Join(dir, "testdata", "fuzz", t.name), input); err != nil {
			return kept, err
		}
	}
	return kept, nil
}

// grows says whether other ran a block that p did not.
func (p profile) grows(other profile) bool {
	for b, n := range other {
		if n > 0 && p[b] == 0 {
			return true
		}
	}
	return false
}

// inputs are the files of a directory, the smallest first.
func inputs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	var files []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		path := filepath.Join(dir, e.Name())
		files, sizes[path] = append(files, path), info.Size()
	}
	slices.SortFunc(files, func(a, b string) int { return cmp.Or(cmp.Compare(sizes[a], sizes[b]), cmp.Compare(a, b)) })
	return files, nil
}

// newStage is a directory that looks like the package's own, but for the inputs.
func newStage(dir string) (string, error) {
	stage, err := os.MkdirTemp("", "fuzz-distil-*")
	if err != nil {
		return "", err
	}
	for _, part := range []string{"", "testdata"} {
		if err := os.MkdirAll(filepath.Join(stage, part), 0o755); err != nil {
			return "", err
		}
		entries, err := os.ReadDir(filepath.Join(dir, part))
		if err != nil && !os.IsNotExist(err) {
			return "", err
		}
		for _, e := range entries {
			if name := e.Name(); name != "testdata" && name != "fuzz" {
				if err := os.Symlink(filepath.Join(dir, part, name), filepath.Join(stage, part, name)); err != nil {
					return "", err
				}
			}
		}
	}
	return stage, nil
}

// alone is what one input reaches.
func alone(ctx context.Context, binary, stage, name, input string) (profile, error) {
	dir := filepath.Join(stage, "testdata", "fuzz", name)
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	if err := copyTo(dir, input); err != nil {
		return nil, err
	}
	return profileOf(ctx, binary, stage, "^"+name+"$/^"+filepath.Base(input)+"$")
}

func copyTo(dir, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, filepath.Base(file)), content, 0o644)
}
