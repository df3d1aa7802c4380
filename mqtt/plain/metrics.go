package plain

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of a hub.
type metrics struct {
	received    prometheus.Counter
	sent        prometheus.Counter
	redelivered prometheus.Counter
	expired     prometheus.Counter
	moved       prometheus.Counter
	wills       prometheus.Counter
	takenOver   prometheus.Counter
	slow        prometheus.Counter

	dropped struct{ queue, away, tooLarge, share, ended prometheus.Counter }
	refused struct{ publish, subscribe, retained, subscriptions prometheus.Counter }
	ended   struct{ expired, evicted, forgotten prometheus.Counter }
}

func newMetrics(h *Hub) (m metrics) {
	with := promauto.With(h.o.Registerer)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: "meterline_mqtt_plain_" + name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Name: "meterline_mqtt_plain_" + name, Help: help}, []string{label})
	}
	gauge := func(name, help string, f func() int64) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterline_mqtt_plain_" + name, Help: help},
			func() float64 { return float64(f()) })
	}
	m.received = counter("received_total", "Messages published by service clients.")
	m.sent = counter("sent_total", "Messages sent to service clients, repeats included.")
	m.redelivered = counter("redelivered_total", "Packets sent again to service clients that came back.")
	m.expired = counter("expired_total", "Messages whose expiry interval was over before they could be sent.")
	m.moved = counter("moved_total", "Messages of shared subscriptions that moved from a member that went away to another.")
	m.wills = counter("wills_total", "Wills published.")
	m.takenOver = counter("taken_over_total", "Connections whose session was taken over by a newer one.")
	m.slow = counter("slow_total", "Service clients disconnected because their queue was full.")

	dropped := counters("dropped_total", "Messages to service clients that were dropped.", "reason")
	m.dropped.queue = dropped.WithLabelValues("queue")
	m.dropped.away = dropped.WithLabelValues("away")
	m.dropped.tooLarge = dropped.WithLabelValues("too_large")
	m.dropped.share = dropped.WithLabelValues("share")
	m.dropped.ended = dropped.WithLabelValues("ended")
	refused := counters("refused_total", "What service clients may not do, or had no room for.", "what")
	m.refused.publish = refused.WithLabelValues("publish")
	m.refused.subscribe = refused.WithLabelValues("subscribe")
	m.refused.retained = refused.WithLabelValues("retained")
	m.refused.subscriptions = refused.WithLabelValues("subscriptions")
	ended := counters("sessions_ended_total", "Sessions that ended while their client was away.", "reason")
	m.ended.expired = ended.WithLabelValues("expired")
	m.ended.evicted = ended.WithLabelValues("evicted")
	m.ended.forgotten = ended.WithLabelValues("forgotten")

	gauge("inflight", "Messages to and from service clients that are not acknowledged.", h.inflight.Load)
	gauge("subscriptions", "Subscriptions of service clients.", h.subscriptions.Load)
	gauge("queued", "Messages that wait for service clients.", h.queued.Load)
	gauge("queued_bytes", "Bytes of the messages that wait for service clients.", h.queuedBytes.Load)
	gauge("sessions", "Sessions of service clients.", pick(h.registry.count, 0))
	gauge("sessions_away", "Sessions whose client is not connected.", pick(h.registry.count, 1))
	gauge("retained", "Retained messages.", pick(h.retained.size, 0))
	gauge("retained_bytes", "Bytes of retained messages.", pick(h.retained.size, 1))
	return m
}

// pick reads one of two figures.
func pick(f func() (int, int), which int) func() int64 {
	return func() int64 {
		a, b := f()
		return int64([2]int{a, b}[which])
	}
}
