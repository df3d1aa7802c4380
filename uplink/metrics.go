package uplink

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the log in Redis.
type metrics struct {
	appended, read, trimmed prometheus.Counter
	refused                 *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "meterline_uplink_log_" + name + "_total", Help: help})
	}
	m := &metrics{
		appended: counter("appended_entries", "Entries that the uplink log took."),
		read:     counter("read_entries", "Entries that were read from the uplink log, repeats included."),
		trimmed:  counter("trimmed_entries", "Entries that the uplink log forgot because they are stored."),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterline_uplink_log_refused_entries_total",
			Help: "Entries of batches that the uplink log did not take as a whole, by reason (full, error)."}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.appended, m.read, m.trimmed, m.refused)
	}
	return m
}

// failed counts a batch that was not taken.
func (m *metrics) failed(err error, entries int) {
	reason := "error"
	if errors.Is(err, ErrFull) {
		reason = "full"
	}
	m.refused.WithLabelValues(reason).Add(float64(entries))
}
