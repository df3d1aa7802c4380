package command

import "github.com/prometheus/client_golang/prometheus"

// Metrics counts what a worker does.
type Metrics struct {
	Partitions prometheus.Gauge
	Claimed    prometheus.Counter
	Unsent     prometheus.Counter
	Requeued   *prometheus.CounterVec // by reason
	Died       prometheus.Counter
	Ended      *prometheus.CounterVec // by state
	Uplinks    *prometheus.CounterVec // by kind
	Readings   prometheus.Counter
	Overtook   prometheus.Counter
	Letters    *prometheus.CounterVec // by cause
	Dropped    *prometheus.CounterVec // by cause
	Open       *prometheus.GaugeVec   // by cause
	Replayed   *prometheus.CounterVec // by outcome
	Lag        prometheus.Gauge
	Stumbles   prometheus.Counter
}

// NewMetrics makes the metrics and registers them; a nil Registerer leaves them unregistered.
func NewMetrics(r prometheus.Registerer) *Metrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	by := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
	}
	m := &Metrics{
		Partitions: prometheus.NewGauge(prometheus.GaugeOpts{Name: "meterline_worker_partitions", Help: "Partitions owned by this worker."}),
		Claimed:    counter("meterline_operations_claimed_total", "Attempts claimed and handed to the publisher."),
		Unsent:     counter("meterline_messages_unsent_total", "Messages that a gateway did not take over."),
		Requeued:   by("meterline_operations_requeued_total", "Operations queued again.", "reason"),
		Died:       counter("meterline_operations_died_total", "Operations whose attempts were used up."),
		Ended:      by("meterline_operations_ended_total", "Operations that ended, by terminal state.", "state"),
		Uplinks:    by("meterline_uplinks_collected_total", "Facts taken over from the uplink log, by kind.", "kind"),
		Letters:    by("meterline_dead_letters_total", "Dead letters written, by cause; one that is there already counts again.", "cause"),
		Dropped:    by("meterline_dead_letters_dropped_total", "Dead letters not kept because too many of their endpoint are open, by cause.", "cause"),
		Replayed:   by("meterline_dead_letters_replayed_total", "Uplinks that were dead letters and were handled again, by what came of it.", "outcome"),
		Open: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "meterline_dead_letters_open",
			Help: "Dead letters that nobody has replayed or discarded, by cause; counted by one worker for all."}, []string{"cause"}),
		Lag:      prometheus.NewGauge(prometheus.GaugeOpts{Name: "meterline_uplink_lag_seconds", Help: "How far the worker is behind the uplink log, in the partition that is furthest."}),
		Overtook: counter("meterline_uplinks_overtook_total", "Answers to real-time operations that were taken in ahead of a backlog."),
		Readings: counter("meterline_readings_stored_total", "Readings stored that were new."),
		Stumbles: counter("meterline_worker_stumbles_total", "Rounds of the worker that failed and were tried again."),
	}
	if r != nil {
		r.MustRegister(m.Partitions, m.Claimed, m.Unsent, m.Requeued, m.Died, m.Ended, m.Uplinks, m.Readings, m.Letters, m.Dropped, m.Open, m.Replayed, m.Overtook, m.Lag, m.Stumbles)
	}
	return m
}

func (m *Metrics) collected(facts []fact, done Committed) {
	for _, f := range facts {
		if f.again != nil {
			continue
		}
		m.Uplinks.WithLabelValues(string(f.Kind)).Inc()
	}
	m.Readings.Add(float64(len(done.Readings)))
}

// buried counts what a transaction did about dead letters.
func (m *Metrics) buried(b buried) {
	for cause, n := range b.kept {
		m.Letters.WithLabelValues(cause).Add(float64(n))
	}
	for cause, n := range b.dropped {
		m.Dropped.WithLabelValues(cause).Add(float64(n))
	}
	if b.replays > 0 {
		m.Replayed.WithLabelValues("bad again").Add(float64(len(b.again)))
		m.Replayed.WithLabelValues("taken").Add(float64(b.replays - len(b.again)))
	}
}

// moved counts what a transaction did to operations. Those of a Bulk change are not listed and not counted.
func (m *Metrics) moved(done Committed) {
	for _, c := range done.Changes {
		for _, o := range c.Operations {
			switch last := o.Moves[len(o.Moves)-1]; {
			case !o.LateResultAt.IsZero() && o.UpdatedAt.Equal(o.LateResultAt):
				// it had ended before
			case !o.State.Open():
				m.Ended.WithLabelValues(string(o.State)).Inc()
			case o.State == Queued && last.Reason != "":
				m.Requeued.WithLabelValues(last.Reason).Inc()
			}
		}
	}
}
