package command

import (
	"log/slog"
	"strconv"
	"testing"

	"meterline/meterread"
)

// TestReadingsForALiveStateThatIsAwayAreBounded: beyond the bound devices are remembered, not their readings.
func TestReadingsForALiveStateThatIsAwayAreBounded(t *testing.T) {
	p := newProjector(WorkerOptions{Metrics: NewMetrics(nil), Logger: slog.New(slog.DiscardHandler)})
	batch := make([]meterread.Reading, 1000)
	for i := range batch {
		batch[i].DeviceID = DeviceID("d" + strconv.Itoa(i))
	}
	for range mostReadings/len(batch) + 50 {
		p.take(Committed{Readings: batch})
	}
	if len(p.readings) != mostReadings || len(p.unread) != len(batch) {
		t.Errorf("%d readings and %d devices wait", len(p.readings), len(p.unread))
	}
}

func TestPace(t *testing.T) {
	p := pace{alone: batchMost}
	if n := p.most(true); n != batchMost {
		t.Errorf("before anything is known %d", n)
	}
	p.took(4, 4e6)    // 4 ms for a few
	p.took(500, 54e6) // 0.1 ms more for each
	if n := p.most(false); n != batchMost {
		t.Errorf("with nobody waiting %d", n)
	}
	if n := p.most(true); n != 70 {
		t.Errorf("7 ms are %d", n)
	}
	p.each = 10e6
	if n := p.most(true); n != batchLeast {
		t.Errorf("on a slow machine %d", n)
	}
}
