package command

import (
	"context"
	"log/slog"
	"testing"
	"time"
)

// obliging is a record that commits whatever is decided, and a log that forgets what is stored.
type obliging struct {
	Ledger
	Log
}

func (obliging) Change(_ context.Context, _ Fence, _ Need, decide func(*Tx) error) (Committed, error) {
	return Committed{}, decide(&Tx{})
}

func (obliging) Stored(context.Context, []LogPosition) {}

func (obliging) Arrived() <-chan struct{} { return nil }

// A partition of which the log holds more is behind, also when what was taken over last is the short rest of what was read.
func TestWhatWasLeftOverIsStillBehind(t *testing.T) {
	t.Parallel()
	for _, full := range []bool{true, false} {
		w := NewWorker(WorkerOptions{Ledger: obliging{}, Log: obliging{}, Clock: &Clock{}, Partition: func(DeviceID) int { return 0 },
			Logger: slog.New(slog.DiscardHandler)})
		w.fence[0], w.cursors[0] = 1, LogPosition{Generation: "g", Position: "1"}
		w.full[0] = full
		w.unread[0] = LogBatch{LogPosition: LogPosition{Generation: "g", Position: "2"}, Horizon: time.Now(),
			Entries: []Uplink{{Endpoint: "d1", Kind: UplinkConnected, Position: "2", Epoch: 1}}}
		busy, err := w.collect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, behind := w.ahead.behind[0]; behind != full || busy != full || w.cursors[0].Position != "2" {
			t.Errorf("the log holds more: %t; behind: %t, busy: %t, at %+v", full, behind, busy, w.cursors[0])
		}
	}
}
