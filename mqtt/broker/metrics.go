package broker

import (
	"strings"
	"sync/atomic"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"meterline/command"
)

// admissionGauges export what admission remembers.
func admissionGauges(r prometheus.Registerer, a *admission, revocationsRead *atomic.Int64) {
	with := promauto.With(r)
	gauge := func(name, help string, f func() float64) {
		with.NewGaugeFunc(prometheus.GaugeOpts{Name: "meterline_mqtt_" + name, Help: help}, f)
	}
	gauge("bans", "Bans for wrong secrets that last.", a.bans.active)
	gauge("held_off", "Endpoints that are held off because they connected too often.", a.flapping.held)
	gauge("credentials_cached", "Devices whose credentials are cached.", a.credentials.size)
	gauge("revocations_age_seconds", "Time since what was taken back was last read.", func() float64 { return since(revocationsRead) })
}

// metrics are the broker's own. None has a device's id as a label.
type metrics struct {
	held             prometheus.Counter     // seconds
	accepted         *prometheus.CounterVec // by role
	stopped          *prometheus.CounterVec // by reason
	panics           prometheus.Counter
	refusedTopics    *prometheus.CounterVec // by role
	uplinks          map[command.UplinkKind]prometheus.Counter
	batchSize        prometheus.Histogram
	appendSeconds    prometheus.Histogram
	appendFailures   prometheus.Counter
	pubackSeconds    prometheus.Histogram
	shed             *prometheus.CounterVec // by what
	deliveries       *prometheus.CounterVec // by outcome
	deliverySeconds  prometheus.Histogram
	waiting          prometheus.Gauge       // bytes
	crowded          *prometheus.CounterVec // by whose limit
	sessionsFailures prometheus.Counter
	restores         prometheus.Counter
	lookupFailures   prometheus.Counter
	lookups          prometheus.Counter
	credentials      *prometheus.CounterVec // by result
	bans             *prometheus.CounterVec // by what
	holdOffs         prometheus.Counter

	revocations        prometheus.Counter
	revocationFailures prometheus.Counter
}

var uplinkKinds = []command.UplinkKind{
	command.UplinkAck, command.UplinkResult, command.UplinkReadings, command.UplinkEvent,
	command.UplinkConnected, command.UplinkDisconnected, command.UplinkDelivered, command.UplinkUndeliverable,
	command.UplinkSecurity,
}

func newMetrics(r prometheus.Registerer) *metrics {
	with := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return with.NewCounter(prometheus.CounterOpts{Name: "meterline_mqtt_" + name, Help: help})
	}
	counters := func(name, help, label string) *prometheus.CounterVec {
		return with.NewCounterVec(prometheus.CounterOpts{Name: "meterline_mqtt_" + name, Help: help}, []string{label})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return with.NewHistogram(prometheus.HistogramOpts{Name: "meterline_mqtt_" + name, Help: help, Buckets: buckets})
	}
	fast := prometheus.ExponentialBuckets(0.0005, 2, 15) // 0.5 ms to 8 s
	m := &metrics{
		held:            counter("publish_held_seconds_total", "Time that endpoints were held because they published more than they may."),
		accepted:        counters("clients_accepted_total", "Clients that were admitted.", "role"),
		stopped:         counters("clients_stopped_total", "Clients the gateway disconnected.", "reason"),
		panics:          counter("panics_total", "Panics that were recovered from."),
		refusedTopics:   counters("refused_topics_total", "Publishes to and subscriptions of topics a client has no right to.", "role"),
		uplinks:         map[command.UplinkKind]prometheus.Counter{},
		batchSize:       histogram("append_batch_entries", "Entries per append to the uplink log.", prometheus.ExponentialBuckets(1, 2, 10)),
		appendSeconds:   histogram("append_seconds", "Time of successful appends to the uplink log.", fast),
		appendFailures:  counter("append_failures_total", "Appends to the uplink log that failed; they are tried again for 3 s."),
		pubackSeconds:   histogram("uplink_puback_seconds", "Time from reading a QoS 1 uplink to writing its PUBACK.", fast),
		shed:            counters("shed_total", "What was dropped under pressure: hints by kind, QoS 0 uplinks, deliveries to service clients.", "what"),
		deliveries:      counters("deliveries_total", "Command messages by outcome.", "outcome"),
		deliverySeconds: histogram("delivery_puback_seconds", "Time from sending a command to the endpoint's PUBACK.", fast),
		waiting: with.NewGauge(prometheus.GaugeOpts{
			Name: "meterline_mqtt_deliveries_waiting_bytes", Help: "Payload of command messages that wait for an endpoint to acknowledge others.",
		}),
		crowded:          counters("deliveries_crowded_total", "Command messages that were undeliverable because too much waited.", "limit"),
		sessionsFailures: counter("presence_failures_total", "Calls to shared presence that failed."),
		restores:         counter("presence_restores_total", "Times presence was written again as a whole."),
		lookupFailures:   counter("credential_lookup_failures_total", "Look-ups of credentials or tokens that failed."),
		lookups:          counter("credential_lookups_total", "Look-ups of credentials, of many devices at once, and of tokens."),
		credentials:      counters("credential_uses_total", "Devices that signed in, by what was known of them before.", "result"),
		bans:             counters("bans_total", "Bans for wrong secrets.", "what"),
		holdOffs:         counter("hold_offs_total", "Endpoints held off because they connected too often."),

		revocations:        counter("revocations_total", "Devices and tokens that were taken back, repeats included."),
		revocationFailures: counter("revocation_failures_total", "Looks at what was taken back that failed."),
	}
	appended := counters("uplinks_total", "Entries appended to the uplink log.", "kind")
	for _, k := range uplinkKinds {
		m.uplinks[k] = appended.WithLabelValues(string(k))
	}
	return m
}

// label is a reason for a label: "malformed packet: topic" is malformed_packet.
func label(code packets.Code) string {
	kind, _, _ := strings.Cut(code.Reason, ":")
	return strings.ReplaceAll(kind, " ", "_")
}
