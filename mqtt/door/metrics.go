package door

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	connections  prometheus.Gauge
	unadmitted   prometheus.Gauge
	notAfter     prometheus.Gauge
	reloads      *prometheus.CounterVec // by outcome
	refused      *prometheus.CounterVec // by reason
	acceptErrors prometheus.Counter
	slowClosed   *prometheus.CounterVec // by cause
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	gauge := func(name, help string) prometheus.Gauge {
		return with.NewGauge(prometheus.GaugeOpts{Name: "meterline_mqtt_" + name, Help: help})
	}
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: "meterline_mqtt_" + name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Name: "meterline_mqtt_" + name, Help: help}, []string{label})
	}
	return &metrics{
		connections:  gauge("connections", "Open client connections, those before CONNECT included."),
		unadmitted:   gauge("connections_unadmitted", "Those of them that have not been admitted yet."),
		notAfter:     gauge("tls_certificate_not_after_seconds", "When the certificate in use expires, Unix time; 0 without TLS."),
		reloads:      counters("tls_reloads_total", "Changes of the TLS files.", "outcome"),
		refused:      counters("clients_refused_total", "Clients that were not admitted.", "reason"),
		acceptErrors: counter("accept_errors_total", "Errors while accepting connections, such as no file descriptors left."),
		slowClosed:   counters("slow_clients_closed_total", "Clients closed because they did not read.", "cause"),
	}
}
