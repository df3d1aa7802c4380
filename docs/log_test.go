package docs_test

import (
	"go/ast"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestLogMessages looks for every message that metrics.md explains in the code: somebody will search for it at night.
func TestLogMessages(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "| message | what to do |")
	section, _, _ = strings.Cut(section, "\n## ")
	said := map[string]bool{}
	for _, file := range sources(t, "mqtt", "cmd", "command") {
		ast.Inspect(file.tree, func(n ast.Node) bool {
			if e, ok := n.(ast.Expr); ok {
				message, _, _ := strings.Cut(literal(e), ": ")
				said[message] = true
			}
			return true
		})
	}
	found := 0
	for _, row := range regexp.MustCompile(`(?m)^\| (.*?) \|`).FindAllStringSubmatch(section, -1) {
		for _, m := range regexp.MustCompile("`(.*?)(?:: …)?`").FindAllStringSubmatch(row[1], -1) {
			found++
			if !said[m[1]] {
				t.Errorf("nothing logs %q", m[1])
			}
		}
	}
	if found < 10 {
		t.Fatalf("found only %d messages: is this test blind?", found)
	}
}
