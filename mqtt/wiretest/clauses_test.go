package wiretest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// normative is every numbered statement of both specifications, as section and numbers.
var normative = map[Version]string{
	V3: `1.5.3 1-3, 2.2.2 1-2, 2.3.1 1-7, 3.1.0 1-2, 3.1.2 1-24, 3.1.3 1-11, 3.1.4 1-5, 3.2.0 1-1, 3.2.2 1-6, 3.3.1 1-12,
		3.3.2 1-3, 3.3.4 1-1, 3.3.5 1-2, 3.6.1 1-1, 3.8.1 1-1, 3.8.3 1-4, 3.8.4 1-6, 3.9.3 1-2, 3.10.1 1-1, 3.10.3 1-2,
		3.10.4 1-6, 3.12.4 1-1, 3.14.1 1-1, 3.14.4 1-3, 4.1.0 1-2, 4.2.0 1-1, 4.3.1 1-1, 4.3.2 1-2, 4.3.3 1-2, 4.4.0 1-1,
		4.5.0 1-2, 4.6.0 1-6, 4.7.1 1-3, 4.7.2 1-1, 4.7.3 1-4, 4.8.0 1-2, 6.0.0 1-4`,
	V5: `1.5.4 1-3, 1.5.5 1-1, 1.5.7 1-1, 2.1.3 1-1, 2.2.1 2-6, 2.2.2 1-1, 3.1.0 1-2, 3.1.2 1-30, 3.1.3 1-9, 3.1.3 11-12,
		3.1.4 1-6, 3.2.0 1-2, 3.2.2 1-22, 3.3.1 1-13, 3.3.2 1-20, 3.3.4 1-4, 3.3.4 6-10, 3.4.2 1-3, 3.5.2 1-3, 3.6.1 1-1,
		3.6.2 1-3, 3.7.2 1-3, 3.8.1 1-1, 3.8.3 1-5, 3.8.4 1-8, 3.9.2 1-2, 3.9.3 1-2, 3.10.1 1-1, 3.10.3 1-2, 3.10.4 1-6,
		3.11.2 1-2, 3.11.3 1-2, 3.12.4 1-1, 3.14.0 1-1, 3.14.1 1-1, 3.14.2 1-4, 3.14.4 1-3, 3.15.1 1-1, 3.15.2 1-3,
		4.1.0 1-2, 4.2 1-1, 4.3.1 1-1, 4.3.2 1-5, 4.3.3 1-13, 4.4.0 1-2, 4.5.0 1-2, 4.6.0 1-6, 4.7.0 1-1, 4.7.1 1-2,
		4.7.2 1-1, 4.7.3 1-4, 4.8.2 1-6, 4.9.0 1-3, 4.12.0 1-7, 4.12.1 1-2, 4.13.1 1-1, 4.13.2 1-1, 6.0.0 1-4`,
}

// elsewhere is what no case is needed for, and why.
var elsewhere = map[Version]map[string]string{
	V3: {
		"2.3.1-3": "what a client does", "3.1.2-12": "contains no more than 3.1.2-9 and 3.1.2-11", "3.1.2-23": "what a client does",
		"3.2.2-6": "about codes that a server does not have", "3.8.3-2": "for servers without wildcards",
		"3.14.4-1": "what a client does", "4.1.0-2": "about the life of a stored session", "4.5.0-2": "what a client does",
		"6.0.0-1": "WebSocket: tests of the listener", "6.0.0-2": "WebSocket: tests of the listener",
		"6.0.0-3": "what a client does", "6.0.0-4": "WebSocket: tests of the listener",
	},
	V5: {
		"2.2.2-1": "checked for every packet", "3.1.2-20": "what a client does", "3.1.2-21": "what a client does",
		"3.2.2-4": "what a client does", "3.2.2-5": "what a client does", "3.2.2-11": "what a client does",
		"3.2.2-12": "for servers without QoS 2", "3.2.2-13": "for servers without retained messages",
		"3.2.2-14": "what a client does", "3.2.2-21": "what a client does", "3.3.2-10": "what a client does",
		"3.3.4-8": "what a client does", "3.6.2-2": "no server we know gives reasons in PUBREL; the size is checked for every packet",
		"3.6.2-3":  "no server we know gives user properties in PUBREL; the size is checked for every packet",
		"3.14.2-1": "checked for every packet", "3.14.2-2": "checked for every packet",
		"3.15.2-2": "for servers with extended authentication", "3.15.2-3": "for servers with extended authentication",
		"4.5.0-2": "what a client does", "4.8.2-5": "for servers that hand a message to another member",
		"4.12.0-2": "for servers with extended authentication", "4.12.0-3": "what a client does",
		"4.12.0-4": "for servers with extended authentication", "4.12.0-5": "for servers with extended authentication",
		"4.12.1-1": "for servers with extended authentication",
		"6.0.0-1":  "WebSocket: tests of the listener", "6.0.0-2": "WebSocket: tests of the listener",
		"6.0.0-3": "what a client does", "6.0.0-4": "WebSocket: tests of the listener",
	},
}

// statements takes normative apart.
func statements(t *testing.T, v Version) (list []string) {
	t.Helper()
	for _, r := range strings.Split(normative[v], ",") {
		var section string
		var first, last int
		if _, err := fmt.Sscanf(strings.Replace(strings.TrimSpace(r), "-", " ", 1), "%s %d %d", &section, &first, &last); err != nil {
			t.Fatalf("%q: %v", r, err)
		}
		for n := first; n <= last; n++ {
			list = append(list, fmt.Sprintf("%s-%d", section, n))
		}
	}
	return list
}

func TestEveryNormativeStatementHasACase(t *testing.T) {
	t.Parallel()
	for _, v := range []Version{V3, V5} {
		covered := map[string]bool{}
		for _, c := range Catalogue() {
			for _, clause := range c.Clauses {
				covered[clause] = covered[clause] || c.Version == v
			}
		}
		for _, s := range statements(t, v) {
			switch why := elsewhere[v][s]; {
			case !covered[s] && why == "":
				t.Errorf("%v: no case for %s", v, s)
			case covered[s] && why != "":
				t.Errorf("%v: there is a case for %s, which is said to need none", v, s)
			}
		}
	}
}

func TestCasesNameClausesThatThereAre(t *testing.T) {
	t.Parallel()
	numbered := regexp.MustCompile(`-\d+$`)
	for _, c := range slices.Concat(Catalogue(), Endpoints()) {
		known := statements(t, c.Version)
		for _, clause := range c.Clauses {
			if numbered.MatchString(clause) && !slices.Contains(known, clause) {
				t.Errorf("%s: %v has no statement %s", c.Name, c.Version, clause)
			}
		}
	}
}

func TestCasesHaveNamesOfTheirOwn(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range slices.Concat(Catalogue(), Endpoints()) {
		if seen[c.Name] {
			t.Errorf("there are two cases %q", c.Name)
		}
		seen[c.Name] = true
	}
	if n := len(Catalogue()); n < 450 {
		t.Errorf("the catalogue has %d cases", n)
	}
}

func TestDeviationsAreOfCasesThatThereAre(t *testing.T) {
	t.Parallel()
	left := len(deviations)
	for _, c := range Catalogue() {
		if c.Deviates != "" {
			left--
		}
	}
	if left != 0 {
		t.Errorf("%d of the known deviations name no case", left)
	}
}
