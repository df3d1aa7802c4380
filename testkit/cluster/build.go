package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"meterline/testkit"
)

// Build says how the programs are built.
type Build struct {
	Faults bool   // with the tag faults: they can be armed
	Race   bool   // with the race detector
	Stamp  string // makes another binary of the same source
	// Ref is a commit to build instead of the sources as they are; it needs a git checkout that has it.
	Ref string
}

// Build says how the programs of the cluster were built.
func (c *Cluster) Build() Build { return c.opt.Build }

var (
	buildsMu sync.Mutex
	builds   = map[Build]built{}
)

// built is a directory of programs. It is there for as long as remove is reachable.
type built struct {
	dir    string
	remove func() error
}

// Programs builds the programs, once per process for each b, and gives their directory, which goes with this process.
func (b Build) Programs(ctx context.Context) (dir string, err error) {
	buildsMu.Lock()
	defer buildsMu.Unlock()
	if known, ok := builds[b]; ok {
		return known.dir, nil
	}
	dir, remove, err := testkit.Scratch("programs")
	if err != nil {
		return "", err
	}
	if err := b.into(ctx, dir); err != nil {
		return "", errors.Join(err, remove())
	}
	builds[b] = built{dir, remove}
	return dir, nil
}

func (b Build) into(ctx context.Context, dir string) error {
	root, err := testkit.ModuleRoot()
	if err != nil {
		return err
	}
	if b.Ref != "" {
		if root, err = checkout(ctx, root, b.Ref, filepath.Join(dir, "source")); err != nil {
			return err
		}
	}
	args := []string{"build", "-buildvcs=false", "-o", dir}
	if b.Faults {
		args = append(args, "-tags", "faults")
	}
	if b.Race {
		args = append(args, "-race")
	}
	if b.Stamp != "" {
		args = append(args, "-ldflags", "-buildid="+b.Stamp)
	}
	for _, program := range []string{"backend", "gateway", "simulator"} {
		args = append(args, "meterline/cmd/"+program)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// checkout writes the sources of ref to dir.
func checkout(ctx context.Context, root, ref, dir string) (string, error) {
	if strings.HasPrefix(ref, "-") {
		return "", fmt.Errorf("check out %q: it is no commit", ref)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	archive := exec.CommandContext(ctx, "git", "archive", "--format=tar", "--output", filepath.Join(dir, "source.tar"), ref)
	archive.Dir = root
	if out, err := archive.CombinedOutput(); err != nil {
		return "", fmt.Errorf("check out %s: %w\n%s", ref, err, out)
	}
	unpack := exec.CommandContext(ctx, "tar", "-xf", "source.tar")
	unpack.Dir = dir
	if out, err := unpack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpack %s: %w\n%s", ref, err, out)
	}
	return dir, nil
}
