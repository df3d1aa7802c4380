// Command build bundles the page of the operations centre: console/src and the libraries in console/npm become console/dist,
// which is committed. It needs neither Node.js nor a network, and the same sources give the same bytes.
//
//	go run ./console/build
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/evanw/esbuild/pkg/api"
)

func main() {
	from := flag.String("from", "console", "directory with src and npm")
	to := flag.String("to", filepath.Join("console", "dist"), "directory that is made anew")
	flag.Parse()
	if err := build(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

// build replaces the directory to.
func build(from, to string) error {
	from, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	files, err := bundle(from)
	if err != nil {
		return err
	}
	icon, err := os.ReadFile(filepath.Join(from, "src", "icon.svg"))
	if err != nil {
		return err
	}
	files = append(files, api.OutputFile{Path: "icon.svg", Contents: icon})
	page, err := os.ReadFile(filepath.Join(from, "src", "index.html"))
	if err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(to, "assets"), 0o750); err != nil {
		return err
	}
	for _, f := range files {
		base := filepath.Base(f.Path)
		name := hashed(base, f.Contents)
		if !bytes.Contains(page, []byte("/assets/"+base)) {
			return fmt.Errorf("index.html does not use %s", base)
		}
		page = bytes.ReplaceAll(page, []byte("/assets/"+base), []byte("/assets/"+name))
		if err := os.WriteFile(filepath.Join(to, "assets", name), f.Contents, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(to, "index.html"), page, 0o600)
}

// bundle gives main.js and main.css.
func bundle(from string) ([]api.OutputFile, error) {
	result := api.Build(api.BuildOptions{
		AbsWorkingDir:     from,
		EntryPoints:       []string{filepath.Join("src", "main.tsx")},
		Outdir:            "dist",
		NodePaths:         []string{filepath.Join(from, "npm")},
		Bundle:            true,
		Format:            api.FormatIIFE,
		Target:            api.ES2022,
		JSX:               api.JSXAutomatic,
		JSXImportSource:   "preact",
		MinifyWhitespace:  true,
		MinifySyntax:      true,
		MinifyIdentifiers: true,
		LegalComments:     api.LegalCommentsNone,
		Banner:            map[string]string{"js": licences, "css": licences},
		TsconfigRaw:       `{}`,
		LogLevel:          api.LogLevelSilent,
	})
	var errs []error
	for _, m := range append(result.Errors, result.Warnings...) {
		where := ""
		if m.Location != nil {
			where = fmt.Sprintf("%s:%d: ", m.Location.File, m.Location.Line)
		}
		errs = append(errs, errors.New(where+m.Text))
	}
	return result.OutputFiles, errors.Join(errs...)
}

const licences = "/* Meterline, Apache-2.0. Contains Preact and uPlot, MIT: see console/npm. */"

// hashed puts a hash of the contents into a name: main.js becomes main-2x4y6z8a.js.
func hashed(base string, contents []byte) string {
	sum := sha256.Sum256(contents)
	hash := strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
	ext := filepath.Ext(base)
	return strings.TrimSuffix(base, ext) + "-" + hash + ext
}
