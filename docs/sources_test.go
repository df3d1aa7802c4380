package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// source is one of our Go files, without tests.
type source struct {
	path string // from docs
	tree *ast.File
}

// sources reads all of our Go files, or those of some directories.
func sources(t *testing.T, dirs ...string) (files []*source) {
	t.Helper()
	if len(dirs) == 0 {
		dirs = []string{"."}
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if name := d.Name(); d.IsDir() && name != ".." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			if d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			tree, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			files = append(files, &source{path, tree})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// literal is the text of a string literal, "" of anything else.
func literal(e ast.Expr) string {
	l, ok := e.(*ast.BasicLit)
	if !ok || l.Kind != token.STRING {
		return ""
	}
	text, _ := strconv.Unquote(l.Value) // it has been parsed
	return text
}

// nameOf is the name of an identifier, "" where there is none.
func nameOf(i *ast.Ident) string {
	if i == nil {
		return ""
	}
	return i.Name
}

// constantsLike lists the string literals of some directories that look like the pattern; keep, where it is given, is asked
// about the name of each that is declared as a constant, and others are left out.
func constantsLike(t *testing.T, pattern *regexp.Regexp, keep func(name string) bool, dirs ...string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, file := range sources(t, dirs...) {
		ast.Inspect(file.tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, value := range n.Values {
					if text := literal(value); keep != nil && pattern.MatchString(text) && keep(n.Names[i].Name) {
						found[text] = true
					}
				}
			case *ast.BasicLit:
				if text := literal(n); keep == nil && pattern.MatchString(text) {
					found[text] = true
				}
			}
			return true
		})
	}
	return found
}
