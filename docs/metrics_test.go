package docs_test

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestMetrics compares the names of metrics in the code with those in the tables of metrics.md.
func TestMetrics(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(meterline_[a-z0-9_]+)` \\| (?:counter|gauge|histogram) \\|").FindAllStringSubmatch(string(page), -1) {
		documented[m[1]] = true
	}
	found := map[string]bool{}
	for _, file := range sources(t) {
		for _, name := range metricsOf(t, file) {
			found[name] = true
		}
	}
	if len(found) < 20 {
		t.Fatalf("found only %d metrics in the code: is the test blind?", len(found))
	}
	for name := range found {
		if !documented[name] {
			t.Errorf("the page lacks %s", name)
		}
	}
	for name := range documented {
		if !found[name] {
			t.Errorf("the page has %s, the code does not", name)
		}
	}
}

// metricsOf lists the metrics a file names: as they are, or by a function that puts something around a name it is given,
// such as counter := func(name, …) { … "meterline_mqtt_" + name + "_total" … } and counter("uplinks", …).
func metricsOf(t *testing.T, file *source) (names []string) {
	t.Helper()
	var part *ast.BasicLit // what stands before a name, and has not been met as such
	around := map[string][2]string{}
	ast.Inspect(file.tree, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			name, isName := n.Lhs[0].(*ast.Ident)
			f, isFunc := n.Rhs[0].(*ast.FuncLit)
			if !isName || !isFunc {
				return true
			}
			if before, after, ok := concatenation(f); ok {
				around[name.Name] = [2]string{before, after}
				return false
			}
		case *ast.CallExpr:
			f, isName := n.Fun.(*ast.Ident)
			if wrap, ok := around[nameOf(f)]; isName && ok {
				names = append(names, wrap[0]+literal(n.Args[0])+wrap[1])
				return false
			}
		case *ast.BasicLit:
			switch text := literal(n); {
			case !strings.HasPrefix(text, "meterline_"):
			case strings.HasSuffix(text, "_"):
				part = n
			default:
				names = append(names, text)
			}
		}
		return true
	})
	if part != nil {
		t.Errorf("%s: cannot tell which metrics %s makes", file.path, part.Value)
	}
	return names
}

// concatenation finds "meterline_…_" + name, or "meterline_…_" + name + "…", in a function.
func concatenation(f *ast.FuncLit) (before, after string, ok bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		sum, is := n.(*ast.BinaryExpr)
		if !is || sum.Op != token.ADD || ok {
			return true
		}
		if inner, is := sum.X.(*ast.BinaryExpr); is {
			after, sum = literal(sum.Y), inner
		}
		before = literal(sum.X)
		ok = strings.HasPrefix(before, "meterline_")
		return !ok
	})
	return before, after, ok
}
