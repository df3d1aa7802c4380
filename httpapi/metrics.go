package httpapi

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics counts requests. The route is the pattern, never the path: paths hold device ids.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	streams  prometheus.Gauge
	crowded  prometheus.Counter
	signIns  *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meterline_http_requests_total", Help: "Requests answered, by route, method and status.",
		}, []string{"route", "method", "code"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "meterline_http_request_duration_seconds", Help: "How long requests took, by route and method.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"route", "method"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "meterline_http_event_streams", Help: "Event streams that are open.",
		}),
		crowded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "meterline_http_too_many_waiting_total", Help: "Long polls, event streams and imports refused because too many wait already.",
		}),
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meterline_http_sign_ins_total", Help: "Attempts to sign in, by outcome.",
		}, []string{"outcome"}),
	}
	r.MustRegister(m.requests, m.duration, m.streams, m.crowded, m.signIns)
	return m
}

func (m *metrics) observe(pattern, method string, status int, took time.Duration) {
	route := pattern
	if _, path, ok := strings.Cut(pattern, " "); ok {
		route = path
	}
	if route == "" {
		route = "none"
	}
	if status == 0 {
		status = http.StatusOK
	}
	method = knownMethod(method)
	m.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route, method).Observe(took.Seconds())
}

// knownMethod keeps clients from making up label values.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}
