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
	var p pace
	if p.most() != batchMost {
		t.Errorf("without real-time work %d", p.most())
	}
	p.took(4, 4e6)    // 4 ms for a few
	p.took(500, 54e6) // 0.1 ms more for each
	if p.most() != batchMost {
		t.Errorf("with nobody waiting %d", p.most())
	}
	p.want()
	if n := p.most(); n != 200 {
		t.Errorf("20 ms are %d", n)
	}
	p.each = 10e6
	if p.most() != batchLeast {
		t.Errorf("on a slow machine %d", p.most())
	}
}
