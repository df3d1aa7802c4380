package docs_test

import (
	"encoding/json"
	"maps"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/fleet"
	"meterline/httpapi"
)

// TestScopes compares the table of http.md with what the API says of itself: every call is there, with the scopes of which
// it needs one.
func TestScopes(t *testing.T) {
	t.Parallel()
	has := callsOf(t)
	said := map[string][]string{}
	for call, cells := range table(t, "http.md", "call") {
		said[call], _, _ = wordsIn(cells[0])
	}
	for call, scopes := range has {
		if !slices.Equal(said[call], scopes) {
			t.Errorf("%s needs one of %q, the page says %q", call, scopes, said[call])
		}
	}
	for call := range said {
		if _, ok := has[call]; !ok {
			t.Errorf("the page has %s, the API does not", call)
		}
	}
}

// wordsIn is what stands in backquotes before the text goes on, in order: "`a`, `b`; and `c`" has a and b.
func wordsIn(cell string) (words []string, rest string, found bool) {
	list, rest, found := strings.Cut(cell, ";")
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(list, -1) {
		words = append(words, m[1])
	}
	return words, rest, found
}

// callsOf lists the calls below /v1 with their scopes, from the description.
func callsOf(t *testing.T) map[string][]string {
	t.Helper()
	r := prometheus.NewRegistry()
	api, err := httpapi.New(httpapi.Options{Fleet: fleet.NewService(fleet.Options{}), Metrics: r, Gatherer: r})
	if err != nil {
		t.Fatal(err)
	}
	answer := httptest.NewRecorder()
	api.ServeHTTP(answer, httptest.NewRequest("GET", "/openapi.json", nil))
	var description struct {
		Paths map[string]map[string]struct{ Description string }
	}
	if err := json.Unmarshal(answer.Body.Bytes(), &description); err != nil {
		t.Fatal(err)
	}
	needs := regexp.MustCompile(`Needs scope ([a-z: ]+)\.$`)
	calls := map[string][]string{}
	for path, methods := range description.Paths {
		for method, op := range methods {
			if m := needs.FindStringSubmatch(op.Description); m != nil {
				calls[strings.ToUpper(method)+" "+path] = strings.Split(m[1], " or ")
			} else if strings.HasSuffix(op.Description, "Needs no scope.") {
				calls[strings.ToUpper(method)+" "+path] = nil
			} else if strings.HasPrefix(path, "/v1/") {
				t.Errorf("%s %s does not say which scope it needs", method, path)
			}
		}
	}
	return calls
}

// TestErrorCodes compares the codes in the source of httpapi with the table of http.md.
func TestErrorCodes(t *testing.T) {
	t.Parallel()
	compareNames(t, constantsLike(t, regexp.MustCompile(`^([A-Z]{5,}|[A-Z]+(_[A-Z]+)+)$`), nil, "httpapi"), table(t, "http.md", "code"))
}

// compareNames complains about names of the code that the page lacks, and the other way round.
func compareNames(t *testing.T, code map[string]bool, page map[string][]string) {
	t.Helper()
	if len(code) < 5 {
		t.Fatalf("found only %q in the code: is the test blind?", slices.Sorted(maps.Keys(code)))
	}
	for name := range code {
		if _, ok := page[name]; !ok {
			t.Errorf("the page lacks %s", name)
		}
	}
	for name := range page {
		if !code[name] {
			t.Errorf("the page has %s, the code does not", name)
		}
	}
}

// table reads the tables of a page whose first column has the given head: by the name in backquotes in that column, the
// cells that follow.
func table(t *testing.T, page, head string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	rows, within := map[string][]string{}, false
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch name := strings.Trim(cells[0], "`"); {
		case cells[0] == head:
			within = true
		case len(cells) < 2:
			within = false
		case within && name != cells[0]:
			rows[name] = cells[1:]
		}
	}
	return rows
}
