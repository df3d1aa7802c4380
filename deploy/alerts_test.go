package deploy_test

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"meterline/testkit"
)

// TestAlerts has Prometheus' own tool read the rules and play their tests.
func TestAlerts(t *testing.T) {
	t.Parallel()
	promtool := testkit.Program(t, "promtool", "prometheus")
	for _, args := range [][]string{
		{"check", "rules", "--lint-fatal", "alerts.yml"},
		{"check", "config", "--syntax-only", "prometheus.yml"},
		{"test", "rules", "alerts_test.yml"},
	} {
		run := exec.CommandContext(t.Context(), promtool, args...)
		run.Dir = "prometheus"
		if out, err := run.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", args, err, out)
		}
	}
}

// TestAlertsAreWhole asserts that each alert has its section in the page, and a history that fires it and one that does not.
func TestAlertsAreWhole(t *testing.T) {
	t.Parallel()
	rules, tests, page := read(t, "prometheus/alerts.yml"), read(t, "prometheus/alerts_test.yml"), read(t, "../docs/alerts.md")
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(rules, -1)
	if len(alerts) < 10 || len(alerts) != strings.Count(page, "\n## ") {
		t.Fatalf("%d alerts, and %d sections of the page", len(alerts), strings.Count(page, "\n## "))
	}
	for _, a := range alerts {
		for text, in := range map[string]string{
			"\n## " + a[1] + "\n": page, "runbook: 'docs/alerts.md#" + strings.ToLower(a[1]) + "'\n": rules,
			"- name: " + a[1] + " fires\n": tests, "- name: " + a[1] + " does not\n": tests,
		} {
			if !strings.Contains(in, text) {
				t.Errorf("%s: there is no %q", a[1], text)
			}
		}
	}
}

// TestMetricsExist asserts that what alerts and the dashboard name is in the page of metrics, which is held against the code, with
// the labels that it is asked by.
func TestMetricsExist(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "grafana/meterline.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	var asked []string
	for _, m := range regexp.MustCompile(`(?m)^ +expr: '(.+)'$`).FindAllStringSubmatch(read(t, "prometheus/alerts.yml"), -1) {
		asked = append(asked, m[1])
	}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			asked = append(asked, target.Expr)
		}
	}
	rows := map[string]string{} // of the tables, by metric: its type and its labels
	for _, m := range regexp.MustCompile("(?m)^\\| `(meterline_\\w+)` \\| (\\w+ \\|[^|]*)\\|").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		rows[m[1]] = m[2]
	}
	metric := regexp.MustCompile(`(meterline_\w+)(?:\{([^}]*)\})?`)
	label := regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	found := 0
	for _, expr := range asked {
		for _, m := range metric.FindAllStringSubmatch(expr, -1) {
			row, there := rows[m[1]]
			if base, cut := strings.CutSuffix(m[1], "_bucket"); cut && strings.HasPrefix(rows[base], "histogram") {
				row, there = rows[base], true
			}
			if !there {
				t.Errorf("%s: there is no %s", expr, m[1])
			}
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if !strings.Contains(row, "`"+l[1]+"`") {
					t.Errorf("%s: %s has no label %s", expr, m[1], l[1])
				}
			}
			found++
		}
	}
	if found < 30 {
		t.Fatalf("found only %d metrics: is this test blind?", found)
	}
}
