package store

import (
	"os"
	"testing"
	"time"

	"meterline/command"
)

func TestZZSeed(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	check(t, Migrate(t.Context(), Options{URL: url}))
	db := reopen(t, url)
	f := fix(t, db)
	b := time.Now()
	f.remember(history{commands: 200_000, devices: 20_000})
	t.Log(time.Since(b))
}

func TestZZAsk(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	db := reopen(t, url)
	f := fix(t, db)
	now, err := db.Now(f.ctx)
	check(t, err)
	n := 7
	for _, q := range questions(f, now) {
		var first, later []time.Duration
		items := 0
		run := func(cursor string) time.Duration {
			b := time.Now()
			l, err := db.FindOperations(f.ctx, tenantA, q.f, command.Page{Limit: pageLength, Cursor: cursor})
			check(t, err)
			items = len(l.Items)
			return time.Since(b)
		}
		c := f.cursorOf(q.f)
		for range n { first = append(first, run("")) }
		got := items
		var l time.Duration
		if c != "" {
			for range n { later = append(later, run(c)) }
			l = median(later)
		}
		m := median(first)
		mark := ""
		if m > 20*time.Millisecond || l > 20*time.Millisecond { mark = " *"}
		if m > 50*time.Millisecond || l > 50*time.Millisecond { mark = " ***"}
		t.Logf("%-55s %4d items %8.1f ms %8.1f ms%s", q.name, got, float64(m.Microseconds())/1000, float64(l.Microseconds())/1000, mark)
	}
}

func TestZZExplain(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	db := reopen(t, url)
	f := fix(t, db)
	now, err := db.Now(f.ctx)
	check(t, err)
	for _, q := range questions(f, now) {
		if q.name != os.Getenv("Q") { continue }
		for range 2 {
		_ = db.search(f.ctx, func(x *tx) error {
			x.run = explaining{x.run, t}
			_, err := x.findOperations(operationQuery{tenantA, q.f, now, nil, 101})
			return err
		})
		}
	}
}

func TestZZCmd(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	db := reopen(t, url)
	f := fix(t, db)
	now, err := db.Now(f.ctx)
	check(t, err)
	n := 7
	for _, q := range commandQuestions(now) {
		var first, later []time.Duration
		items := 0
		run := func(cursor string) time.Duration {
			b := time.Now()
			l, err := db.FindCommands(f.ctx, tenantA, q.f, command.Page{Limit: pageLength, Cursor: cursor})
			check(t, err)
			items = len(l.Items)
			return time.Since(b)
		}
		c := ""
		for range 5 {
			l, err := db.FindCommands(f.ctx, tenantA, q.f, command.Page{Limit: 1000, Cursor: c})
			check(t, err)
			if c = l.NextCursor; c == "" { break }
		}
		for range n { first = append(first, run("")) }
		got := items
		var l time.Duration
		if c != "" {
			for range n { later = append(later, run(c)) }
			l = median(later)
		}
		m := median(first)
		mark := ""
		if m > 20*time.Millisecond || l > 20*time.Millisecond { mark = " *"}
		if m > 50*time.Millisecond || l > 50*time.Millisecond { mark = " ***"}
		t.Logf("%-55s %4d items %8.1f ms %8.1f ms%s", q.name, got, float64(m.Microseconds())/1000, float64(l.Microseconds())/1000, mark)
	}
}

func TestZZExplainCmd(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	db := reopen(t, url)
	f := fix(t, db)
	now, err := db.Now(f.ctx)
	check(t, err)
	for _, q := range commandQuestions(now) {
		if q.name != os.Getenv("Q") { continue }
		for range 2 {
		_ = db.search(f.ctx, func(x *tx) error {
			x.run = explaining{x.run, t}
			_, err := x.findCommands(commandQuery{tenant: tenantA, filter: q.f, now: now, limit: 101})
			return err
		})
		}
	}
}

func TestZZPile(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	db := reopen(t, url)
	f := fix(t, db)
	b := time.Now()
	f.pile(history{commands: 200_000, devices: 20_000}, 100)
	t.Log(time.Since(b))
}

func TestZZWork(t *testing.T) {
	url := os.Getenv("DEV_URL")
	if url == "" { t.Skip() }
	db := reopen(t, url)
	f := fix(t, db)
	for _, w := range errands(f) {
		var took []time.Duration
		found := 0
		for range 5 {
			b := time.Now()
			found = w.run()
			took = append(took, time.Since(b))
		}
		t.Logf("%-50s %8d %8.1f ms", w.name, found, float64(median(took).Microseconds())/1000)
	}
}
