package store

import (
	"slices"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

// patience of a person who looks at the operations centre.
const patienceOfPeople = 50 * time.Millisecond

// BenchmarkMillion measures what people ask of a million operations, and what workers ask beside another million that wait
// for IPCs that are offline: the median, and the pages of 8 KiB that PostgreSQL looks at for it.
//
//	go test ./store -run '^$' -bench Million -benchtime 20x
func BenchmarkMillion(b *testing.B) {
	f := fix(b, newRecord(b, testkit.PostgresPrivate(b).URL))
	h := history{commands: 200_000, devices: 20_000}
	f.remember(h)
	now, err := f.Now(f.ctx)
	check(b, err)
	all := questions(f, now)
	b.Run("operations", func(b *testing.B) { f.askAll(b, all, now) })
	b.Run("commands", func(b *testing.B) {
		for _, q := range commandQuestions(now) {
			b.Run(q.name, func(b *testing.B) { f.askCommands(b, q, now) })
		}
	})
	f.pile(h, 100)
	b.Run("beside", func(b *testing.B) {
		f.askAll(b, slices.DeleteFunc(all, func(q question) bool { return !slices.Contains(askedBeside, q.name) }), now)
	})
	b.Run("workers", func(b *testing.B) {
		for i, e := range errands(f) {
			b.Run(e.name, func(b *testing.B) {
				e := errands(fix(b, f.DB))[i]
				var took []time.Duration
				n := 0
				for b.Loop() {
					began := time.Now()
					n = e.run()
					took = append(took, time.Since(began))
				}
				report(b, took, n, 0)
			})
		}
	})
}

// askedBeside are the questions for which it matters how much is open.
var askedBeside = []string{"everything", "device", "endpoint", "group of half the devices", "group of 1000", "group of 20", "group of 500 not asked lately",
	"kind of few", "kind of none", "last hour", "queued", "sent", "delivered", "accepted", "expired", "endpoint, queued", "endpoint, sent", "group of 20, sent"}

func (f fixture) askAll(b *testing.B, questions []question, now time.Time) {
	for _, q := range questions {
		b.Run(q.name, func(b *testing.B) {
			b.Run("page1", func(b *testing.B) { f.ask(b, q, now, "") })
			if c := f.cursorOf(q.f); c != "" {
				b.Run("page50", func(b *testing.B) { f.ask(b, q, now, c) })
			}
		})
	}
}

func (f fixture) ask(b *testing.B, q question, now time.Time, cursor string) {
	f.TB = b
	var took []time.Duration
	n := 0
	for b.Loop() {
		began := time.Now()
		list, err := f.FindOperations(f.ctx, tenantA, q.f, command.Page{Limit: pageLength, Cursor: cursor})
		took = append(took, time.Since(began))
		check(b, err)
		n = len(list.Items)
	}
	from, err := parseCursor(cursor)
	check(b, err)
	pages, plans := f.explained(func(x *tx) error {
		_, err := x.findOperations(operationQuery{tenantA, q.f, now, from, pageLength + 1})
		return err
	})
	f.bearable(b, took, n, pages, plans)
}

func (f fixture) askCommands(b *testing.B, q commandQuestion, now time.Time) {
	f.TB = b
	var took []time.Duration
	n := 0
	for b.Loop() {
		began := time.Now()
		list, err := f.FindCommands(f.ctx, tenantA, q.f, command.Page{Limit: pageLength})
		took = append(took, time.Since(began))
		check(b, err)
		n = len(list.Items)
	}
	pages, plans := f.explained(func(x *tx) error {
		_, err := x.findCommands(commandQuery{tenant: tenantA, filter: q.f, now: now, limit: pageLength + 1})
		return err
	})
	f.bearable(b, took, n, pages, plans)
}

// bearable reports a list, and complains when it takes too long.
func (f fixture) bearable(b *testing.B, took []time.Duration, items, pages int, plans []string) {
	b.Helper()
	if report(b, took, items, pages); median(took) > patienceOfPeople {
		b.Errorf("takes %v:\n%s", median(took), strings.Join(plans, "\n\n"))
	}
}

func report(b *testing.B, took []time.Duration, items, pages int) {
	b.ReportMetric(float64(median(took).Microseconds())/1000, "ms/median")
	b.ReportMetric(float64(items), "items")
	if pages > 0 {
		b.ReportMetric(float64(pages), "pages")
	}
}

const (
	pageLength = 100
	laterPage  = 50
)

// cursorOf is where the later page of a list begins; "" where the list is shorter.
func (f fixture) cursorOf(q command.OperationFilter) string {
	f.Helper()
	p := command.Page{}
	for left := (laterPage - 1) * pageLength; left > 0; left -= p.Limit {
		p.Limit = min(left, 1000)
		list, err := f.FindOperations(f.ctx, tenantA, q, p)
		check(f, err)
		if p.Cursor = list.NextCursor; p.Cursor == "" {
			return ""
		}
	}
	return p.Cursor
}

func median(took []time.Duration) time.Duration {
	slices.Sort(took)
	return took[len(took)/2]
}

// errand is something that a worker asks again and again; run says how much there was.
type errand struct {
	name string
	run  func() int
}

func errands(f fixture) []errand {
	var newest int64
	check(f, f.writes.pool.Get(&newest, `SELECT max(seq) FROM commands`))
	all := make([]int, f.partitions)
	for i := range all {
		all[i] = i
	}
	heads := make([]command.Head, onlineIPCs)
	for i := range heads {
		heads[i] = command.Head{Endpoint: ipcNumber(i), Partition: f.partitionOf(ipcNumber(i)), Limit: 64}
	}
	return []errand{
		{"open operations of a tenant", func() int {
			n, err := f.OpenOperations(f.ctx, tenantA)
			check(f, err)
			return n
		}},
		{"ready, 200 endpoints", func() int {
			found, err := f.Ready(f.ctx, heads)
			check(f, err)
			n := 0
			for _, front := range found {
				n += len(front.Operations)
			}
			return n
		}},
		{"ready, one endpoint", func() int {
			found, err := f.Ready(f.ctx, heads[:1])
			check(f, err)
			return len(found[heads[0].Endpoint].Operations)
		}},
		{"arrivals", func() int {
			found, err := f.Arrivals(f.ctx, newest-100, 1000)
			check(f, err)
			return len(found)
		}},
		{"due", func() int {
			found, err := f.Due(f.ctx, nil, 100)
			check(f, err)
			return len(found)
		}},
		{"timed", func() int {
			now, err := f.Now(f.ctx)
			check(f, err)
			found, err := f.Timed(f.ctx, now.Add(-time.Second), now)
			check(f, err)
			return len(found)
		}},
		{"recover all partitions", func() int {
			found, err := f.Recover(f.ctx, all)
			check(f, err)
			return len(found.InFlight) + len(found.Endpoints)
		}},
		{"recover one partition", func() int {
			found, err := f.Recover(f.ctx, all[:1])
			check(f, err)
			return len(found.InFlight) + len(found.Endpoints)
		}},
	}
}
