package command

import (
	"context"
	"log/slog"
	"reflect"
	"testing"
	"time"
)

// grants is a record that has given some partitions to the worker, by the round.
type grants struct {
	Ledger
	rounds []Fence
}

func (g *grants) Hold(context.Context, string, time.Duration, time.Duration) (Fence, int, error) {
	f := g.rounds[0]
	g.rounds = g.rounds[1:]
	return f, 0, nil
}

func (g *grants) Recover(context.Context, []int) (Recovered, error) { return Recovered{}, nil }

// owned notes what it is told that the worker owns.
type owned struct {
	Log
	told [][]int
}

func (o *owned) Owns(partitions []int) { o.told = append(o.told, partitions) }

// The log is told what the worker owns now, also when that is less, or nothing any more.
func TestTheLogKnowsWhatIsOwned(t *testing.T) {
	t.Parallel()
	log := &owned{}
	w := NewWorker(WorkerOptions{Ledger: &grants{rounds: []Fence{{2: 1, 0: 1}, {2: 1}, {}}}, Log: log, Clock: &Clock{}, Logger: slog.New(slog.DiscardHandler)})
	for range 3 {
		w.next.hold = time.Time{}
		if err := w.hold(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if want := [][]int{{0, 2}, {2}, {}}; !reflect.DeepEqual(log.told, want) {
		t.Errorf("told %v, want %v", log.told, want)
	}
}
