package store

import (
	"context"
	"strings"
	"testing"

	"github.com/jmoiron/sqlx"
)

// explaining is a runner that, where a query reads operations, asks PostgreSQL how it would go about it, with the settings
// of a fresh server, and complains about reading more than an index range; then it ends with errExplained.
type explaining struct {
	runner
	t *testing.T
}

func (e explaining) QueryxContext(ctx context.Context, text string, args ...any) (*sqlx.Rows, error) {
	if !strings.Contains(text, "FROM operations") {
		return e.runner.QueryxContext(ctx, text, args...)
	}
	c, err := e.runner.(*sqlx.DB).Connx(ctx)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, `RESET ALL`); err != nil {
		return nil, err
	}
	for _, name := range []string{"enable_seqscan", "enable_hashjoin", "enable_mergejoin"} {
		if _, err := c.ExecContext(ctx, `SET `+name+` = on`); err != nil {
			return nil, err
		}
		defer func() { _, _ = c.ExecContext(ctx, `SET `+name+` = off`) }()
	}
	var lines []string
	if err := c.SelectContext(ctx, &lines, `EXPLAIN (ANALYZE, BUFFERS) `+text, args...); err != nil {
		return nil, err
	}
	plan := strings.Join(lines, "\n")
	e.t.Log(plan)
	if strings.Contains(plan, "Seq Scan on operations") {
		e.t.Errorf("reads the whole table:\n%s", plan)
	}
	return nil, errExplained
}
