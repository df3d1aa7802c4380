package command

import (
	"testing"
	"time"
)

func TestPaceFitsTheWait(t *testing.T) {
	p := chunkPace(paceFirst)
	for range 20 { // 20 µs each
		p.took(int(p), time.Duration(p)*20*time.Microsecond, waitAlone)
	}
	if p != paceMost {
		t.Errorf("alone: %d", p)
	}
	for range 20 {
		p.took(int(p), time.Duration(p)*20*time.Microsecond, waitBesideLive)
	}
	if p != chunkPace(waitBesideLive/(20*time.Microsecond)) {
		t.Errorf("beside live reads: %d", p)
	}
	was := p
	p.took(1, time.Second, waitBesideLive)
	if p != was {
		t.Errorf("one operation says %d", p)
	}
	for range 20 {
		p.took(int(p), time.Minute, waitBesideLive)
	}
	if p != paceLeast {
		t.Errorf("on a slow database: %d", p)
	}
}

// Small commands end together, up to the pace; what is not read to yet, or ends in another way, does not join them.
func TestDueTogether(t *testing.T) {
	now := time.Now()
	due := func(ago time.Duration, open int) Command {
		return Command{ExpiresAt: now.Add(-ago), Counts: Counts{Total: open, Queued: open}}
	}
	cancelled := due(-time.Hour, 1)
	cancelled.CancelledAt = now
	overdue := cancelled
	overdue.ExpiresAt = now.Add(-10 * time.Second)
	for _, c := range []struct {
		name string
		list []Command
		n    int
		as   State
	}{
		{"one large one", []Command{due(9*time.Second, 9000), due(8*time.Second, 1)}, 1, Expired},
		{"as many as fit", []Command{due(9*time.Second, 400), due(8*time.Second, 600), due(7*time.Second, 1)}, 2, Expired},
		{"the log is read to five seconds ago", []Command{due(9*time.Second, 1), due(4*time.Second, 1)}, 1, Expired},
		{"nothing is read to its deadline", []Command{due(4*time.Second, 1), due(3*time.Second, 1)}, 1, Expired},
		{"cancelled is another end", []Command{due(9*time.Second, 1), cancelled}, 1, Expired},
		{"cancelled and over", []Command{overdue, due(9*time.Second, 1)}, 2, Expired},
		{"cancelled ones", []Command{cancelled, cancelled}, 2, Cancelled},
	} {
		w := &Worker{opt: WorkerOptions{Clock: NewClock(nil)}, due: newDueWatch(), fence: Fence{0: 1, 1: 1},
			horizon: map[int]time.Time{0: now, 1: now.Add(-5 * time.Second)}}
		w.due.list = c.list
		batch, as := w.dueTogether()
		if len(batch) != c.n || as != c.as {
			t.Errorf("%s: %d end as %s", c.name, len(batch), as)
		}
	}
}
