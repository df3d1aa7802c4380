package testkit

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Node is a command that runs a script with the npm packages that from, a directory such as testkit/mqttjs, pins in its
// package-lock.json. They are installed outside the sources, below .cache/npm, by .ci/need-servers, as `make test` does it; where
// they, or Node.js, are missing the test ends like one without a server. Scripts find them by require, not by import.
func Node(t testing.TB, from, script string, args ...string) *exec.Cmd {
	t.Helper()
	node := Program(t, "node", "nodejs npm")
	modules, err := npmModules(from)
	need(t, err)
	cmd := exec.Command(node, append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	return cmd
}

// npmModules finds the installed packages, and refuses those of another lock file than the committed one.
func npmModules(from string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	const lock = "package-lock.json"
	cache := filepath.Join(root, ".cache", "npm", strings.ReplaceAll(from, "/", "-"))
	want, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(from), lock))
	if err != nil {
		return "", fmt.Errorf("read the lock of the npm packages: %w", err)
	}
	got, err := os.ReadFile(filepath.Join(cache, lock))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read the lock of the installed npm packages: %w", err)
	}
	if !bytes.Equal(got, want) {
		return "", &missing{server: "the npm packages that " + from + " pins"}
	}
	return filepath.Join(cache, "node_modules"), nil
}

// moduleRoot is the directory of go.mod, above the directory that the test runs in.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		above := filepath.Dir(dir)
		if above == dir {
			return "", errors.New("find go.mod: it is not above the working directory")
		}
		dir = above
	}
	return "", err
}
