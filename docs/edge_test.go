package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"testing"
)

// TestHoles compares the table of edge.md with the tests: every row names one that exists, every test has its row.
func TestHoles(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("edge.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| (\\d+) \\|.*\\| `(\\d\\d_[a-z0-9_]+)` \\|$").FindAllStringSubmatch(string(page), -1) {
		if number := m[2][:2]; number != m[1] && number != "0"+m[1] {
			t.Errorf("row %s names %s", m[1], m[2])
		}
		if rows[m[2]] {
			t.Errorf("%s has two rows", m[2])
		}
		rows[m[2]] = true
	}
	tests := holes(t)
	if len(tests) < 20 {
		t.Fatalf("found only %d tests: is this one blind?", len(tests))
	}
	for name := range tests {
		if !rows[name] {
			t.Errorf("the page lacks %s", name)
		}
	}
	for name := range rows {
		if !tests[name] {
			t.Errorf("the page has %s, the tests do not", name)
		}
	}
}

// holes are the names in the table that TestHole runs: its entries are keyed, name first.
func holes(t *testing.T) map[string]bool {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../mqtt/broker/holes/holes_test.go", nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		pair, is := n.(*ast.KeyValueExpr)
		if !is {
			return true
		}
		if key, is := pair.Key.(*ast.Ident); is && key.Name == "name" {
			names[literal(pair.Value)] = true
		}
		return true
	})
	return names
}
