package store

import (
	"context"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
)

// explaining is a runner that also has PostgreSQL tell how it answers each query: it adds up the pages that are looked at,
// and complains about tables that are read as a whole.
type explaining struct {
	runner
	t     testing.TB
	pages *int
	plans *[]string
}

func (e explaining) QueryxContext(ctx context.Context, text string, args ...any) (*sqlx.Rows, error) {
	var lines []string
	if err := sqlx.SelectContext(ctx, e.runner, &lines, `EXPLAIN (ANALYZE, BUFFERS) `+text, args...); err != nil {
		return nil, err
	}
	plan := strings.Join(lines, "\n")
	*e.plans = append(*e.plans, plan)
	*e.pages += pagesOf(plan)
	for _, table := range []string{"operations", "commands"} {
		if strings.Contains(plan, "Seq Scan on "+table) {
			e.t.Errorf("reads all %s:\n%s", table, plan)
		}
	}
	return e.runner.QueryxContext(ctx, text, args...)
}

var buffers = regexp.MustCompile(`Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?`)

// pagesOf is how many pages a plan looked at: its first node counts those below it too.
func pagesOf(plan string) int {
	n := 0
	if m := buffers.FindStringSubmatch(plan); m != nil {
		for _, digits := range m[1:] {
			k, _ := strconv.Atoi(digits) // "" is none
			n += k
		}
	}
	return n
}

// explained runs a search that is explained.
func (f fixture) explained(search func(*tx) error) (pages int, plans []string) {
	f.Helper()
	check(f, f.search(f.ctx, func(x *tx) error {
		x.run = explaining{x.run, f.TB, &pages, &plans}
		return search(x)
	}))
	return pages, plans
}

// exec1 runs a statement that is not worth a transaction of its own.
func (f fixture) exec1(text string) error {
	_, err := f.writes.pool.ExecContext(f.ctx, text)
	return err
}
