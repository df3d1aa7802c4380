package command

import (
	"fmt"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Backlog is what an uplink log holds.
type Backlog struct {
	Entries int64         // at most, entries that are stored and not trimmed yet included
	Bytes   int64         // of memory or disk
	Oldest  time.Duration // how old the oldest entry is that is not in the record; 0 when all are, and for who does not read the log
	Share   float64       // of the bound that the fullest partition has reached, or the log's memory: 0 to 1
}

// The shares of a log's bound at which the alarm is raised, and from which on it is over.
const (
	AlarmShare = 0.8
	CalmShare  = 0.7
)

// BacklogWatch shows the backlog of one log and raises an alarm before it is full: once, not with every message. Safe for
// concurrent use.
type BacklogWatch struct {
	log    string // redis or store
	logger *slog.Logger
	oldest prometheus.Gauge
	known  [4]prometheus.Gauge // entries, bytes, share, alarm

	mu    sync.Mutex
	last  Backlog
	seen  bool
	share float64
	alarm bool
	least int64 // entries: the fewest that were seen since it did not grow
	grows bool
}

// A backlog of more than growsFrom entries that has become a fifth larger grows, until it is smaller than that again: what comes is more
// than what is taken over. One that came while nobody read, and shrinks, does not.
const growsFrom = 10_000

// NewBacklogWatch watches the log of that name. A nil Registerer leaves its metrics unregistered.
func NewBacklogWatch(r prometheus.Registerer, log string, logger *slog.Logger) *BacklogWatch {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: prometheus.Labels{"log": log}})
		if r != nil {
			r.MustRegister(g)
		}
		return g
	}
	return &BacklogWatch{log: log, logger: logger, least: -1,
		oldest: gauge("meterline_uplink_log_oldest_seconds", "Age of the oldest entry of the uplink log that is not in the record, of the partitions that this process reads."),
		known: [4]prometheus.Gauge{
			gauge("meterline_uplink_log_entries", "Entries that the uplink log holds, of the partitions that this process uses."),
			gauge("meterline_uplink_log_bytes", "Bytes that they take."),
			gauge("meterline_uplink_log_full_ratio", "Share of its bound that the fullest partition of the uplink log has reached, 0 to 1."),
			gauge("meterline_uplink_log_alarm", "1 while the uplink log is nearly full."),
		}}
}

// Saw takes in what the log holds now.
func (w *BacklogWatch) Saw(b Backlog) {
	w.oldest.Set(b.Oldest.Seconds())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.seen = b, true
	before := w.alarm
	if w.least = min(w.least, b.Entries); b.Entries < growsFrom || w.least < 0 {
		w.least, w.grows = b.Entries, false
	}
	w.grows = w.grows || b.Entries > growsFrom && b.Entries > w.least+w.least/5
	w.share, w.alarm = b.Share, b.Share >= AlarmShare || w.alarm && b.Share >= CalmShare
	raised := 0.0
	if w.alarm {
		raised = 1
	}
	for i, v := range []float64{float64(b.Entries), float64(b.Bytes), b.Share, raised} {
		w.known[i].Set(v)
	}
	switch {
	case w.alarm && !before:
		w.logger.Error("the uplink log is nearly full: when it is, uplinks are not acknowledged any more", "log", w.log,
			"full_percent", math.Round(b.Share*100), "entries", b.Entries, "oldest", b.Oldest.Round(time.Second))
	case before && !w.alarm:
		w.logger.Info("the uplink log has room again", "log", w.log, "full_percent", math.Round(b.Share*100))
	}
}

// Lost notes that the log could not be looked at: until it is seen again, what is shown of it is not a number. An alarm stays.
func (w *BacklogWatch) Lost() {
	w.oldest.Set(math.NaN())
	for _, g := range w.known[:3] {
		g.Set(math.NaN())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = false
}

// Backlog is what was seen last; false when it is not known.
func (w *BacklogWatch) Backlog() (Backlog, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.seen
}

// Presses says that the log is nearly full, or grows: see growsFrom.
func (w *BacklogWatch) Presses() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.alarm || w.grows
}

// Alarms says in a line what is wrong, if anything.
func (w *BacklogWatch) Alarms() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.alarm {
		return nil
	}
	return []string{fmt.Sprintf("the uplink log in %s is %.0f %% full", w.log, w.share*100)}
}
