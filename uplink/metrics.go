package uplink

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the log in Redis.
type metrics struct {
	appended, read, trimmed, restarts prometheus.Counter
	refused                           *prometheus.CounterVec
	weak                              prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "meterline_uplink_log_" + name + "_total", Help: help})
	}
	m := &metrics{
		appended: counter("appended_entries", "Entries that the uplink log took."),
		read:     counter("read_entries", "Entries that were read from the uplink log, repeats included."),
		trimmed:  counter("trimmed_entries", "Entries that the uplink log forgot because they are stored."),
		restarts: counter("restarts", "Times that a partition was read from its start because the uplink log was another one."),
		weak: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meterline_uplink_log_weak",
			Help: "1 while the Redis of the uplink log can lose what it acknowledged."}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterline_uplink_log_refused_entries_total",
			Help: "Entries of batches that the uplink log did not take as a whole, by reason (full, replicas, error)."}, []string{"reason"}),
	}
	if reg != nil {
		reg.MustRegister(m.appended, m.read, m.trimmed, m.restarts, m.refused, m.weak)
	}
	return m
}

// failed counts a batch that was not taken.
func (m *metrics) failed(err error, entries int) {
	reason := "error"
	switch {
	case errors.Is(err, ErrFull):
		reason = "full"
	case errors.Is(err, ErrNotReplicated):
		reason = "replicas"
	}
	m.refused.WithLabelValues(reason).Add(float64(entries))
}
