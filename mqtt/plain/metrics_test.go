package plain

import (
	"math"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
)

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	r := newRig(t, Options{
		Registerer: registry,
		Rules:      &rules{maySubscribe: func(_ any, filter string) bool { return filter != "no" }},
	})
	if o := r.Options(); o.ReceiveMaximum != 1024 || o.TopicAliasMaximum != 32 {
		t.Errorf("announces %d and %d", o.ReceiveMaximum, o.TopicAliasMaximum)
	}
	r.Publish(Message{Topic: "no/+", Retain: true}) // a topic that is none
	away := r.resume5("away")
	away.subscribe("t", 1)
	away.drop()
	a := r.link(&wire{}, Connect{Key: "a", Version: 5, SessionExpiry: math.MaxUint32, Will: &Will{Message: Message{Topic: "w"}}})
	a.subscribe("t", 2)
	a.subscribe("no", 2)
	a.publish("t", "x", 2, retain) // to a and away
	a.publish("$no", "x", 1)
	a.do(publish("u", "y", 2, 77))
	b := r.resume5("a") // takes over
	for _, kind := range []byte{packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp} {
		a.fails(ack(kind, 1), packets.ErrSessionTakenOver)
	}
	a.fails(ack(packets.Disconnect, 0), packets.ErrSessionTakenOver)
	b.want("t=x q2 dup")

	got := map[string]float64{}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.Metric {
			name := family.GetName()[len("meterline_mqtt_plain_"):]
			for _, label := range m.Label {
				name += " " + label.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	want := map[string]float64{
		"received_total": 3, "sent_total": 2, "redelivered_total": 1, "expired_total": 0, "moved_total": 0, "wills_total": 1,
		"taken_over_total": 1, "slow_total": 0,
		"dropped_total queue": 0, "dropped_total away": 0, "dropped_total too_large": 0, "dropped_total share": 0, "dropped_total ended": 0,
		"refused_total publish": 1, "refused_total subscribe": 1, "refused_total retained": 0, "refused_total subscriptions": 0,
		"sessions_ended_total expired": 0, "sessions_ended_total evicted": 0, "sessions_ended_total forgotten": 0,
		"inflight": 2, "subscriptions": 2, "queued": 1, "queued_bytes": overhead + 2, "sessions": 2, "sessions_away": 1,
		"retained": 1, "retained_bytes": overhead + 2,
	}
	for name, n := range want {
		if value, ok := got[name]; !ok || value != n {
			t.Errorf("%s is %v, want %v", name, value, n)
		}
		delete(got, name)
	}
	for name := range got {
		t.Errorf("%s is not looked at", name)
	}
}
