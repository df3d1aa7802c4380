package broker

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/mqtt"
)

// fuzzed are the decoders, by the first argument of FuzzDecode.
var fuzzed = []func(t *testing.T, a, b string){fuzzTopic, fuzzFilter, fuzzClientID, fuzzHeader}

// FuzzDecode gives the input to what reads topics, filters, client ids and the header of command messages.
func FuzzDecode(f *testing.F) {
	for i, topic := range fuzzTopics {
		f.Add(byte(0), topic, "")
		f.Add(byte(1), topic, fuzzTopics[(i*7+3)%len(fuzzTopics)])
	}
	for _, id := range []string{"d1", "d1:a", "d1:", "d2", "d10", "", "d1:" + strings.Repeat("x", 128), "d1:" + strings.Repeat("x", 129)} {
		f.Add(byte(2), id, "d1")
	}
	for _, payload := range []string{commandJSON("m1", time.Minute), `{}`, `null`, `[]`, `{"message_id":7}`, `{"command_id":"a\u0000b","kind":"\ud800"}`,
		`{"expires_at":"9999-12-31T23:59:59Z"}`, `{"expires_at":"2020-01-01T00:00:00Z"}`, `{"kind":"` + strings.Repeat("k", 1<<16) + `"}`, "\xff",
		`{"expires_at":"nope","kind":"k"}`} {
		f.Add(byte(3), payload, "")
	}
	f.Fuzz(func(t *testing.T, kind byte, a, b string) { fuzzed[int(kind)%len(fuzzed)](t, a, b) })
}

// fuzzTopic: what a topic is taken for is what it says, and each role publishes to its own topics only.
func fuzzTopic(t *testing.T, topic, _ string) {
	t.Helper()
	command, isCommand := mqtt.ParseCommandTopic(topic)
	if isCommand && (mqtt.CommandTopic(command) != topic || mqtt.Reserved(command)) {
		t.Errorf("%q is not the topic of %q", topic, command)
	}
	endpoint, channel, isUplink := mqtt.ParseUplinkTopic(topic)
	if isUplink && (mqtt.UplinkTopic(endpoint, channel) != topic || channel.Kind() == "" || strings.Contains(string(endpoint), "/")) {
		t.Errorf("%q is not the topic of %q %q", topic, endpoint, channel)
	}
	inside := topic == "meterline" || strings.HasPrefix(topic, "meterline/")
	for _, c := range []struct {
		who  identity
		want bool
	}{
		{identity{role: roleEndpoint, endpoint: "d1"}, isUplink && strings.HasPrefix(topic, "meterline/v1/d1/up/")},
		{identity{role: roleBackend}, isCommand},
		{identity{role: roleService, tenant: "t1"}, !inside && topic != "" && topic[0] != '$'},
		{identity{role: roleService, tenant: "t1", admin: true}, isCommand || !inside && topic != "" && topic[0] != '$'},
		{identity{}, false},
	} {
		if got := c.who.mayPublish(topic); got != c.want {
			t.Errorf("%v may publish to %q: %t", c.who.role, topic, got)
		}
	}
	if got := clip(topic); len(got) > 203 || utf8.ValidString(topic) && !utf8.ValidString(got) {
		t.Errorf("%q is clipped to %q", topic, got)
	}
}

// matched is MQTT 4.7 once more: does a topic match a filter?
func matched(filter, topic string) bool {
	if strings.HasPrefix(topic, "$") && !strings.HasPrefix(filter, "$") {
		return false
	}
	f, rest, deeper := strings.Cut(filter, "/")
	if f == "#" {
		return !deeper
	}
	level, below, more := strings.Cut(topic, "/")
	if f != "+" && f != level {
		return false
	}
	switch {
	case deeper && more:
		return matched(rest, below)
	case deeper:
		return rest == "#" // also the level above
	}
	return !more
}

// fuzzFilter: a service sees of what is ours nothing but uplinks, by whatever filter, and an endpoint its commands.
func fuzzFilter(t *testing.T, filter, topic string) {
	t.Helper()
	service := identity{role: roleService, tenant: "t1"}
	if ours(filter) && !mayMatchOurs(filter) {
		t.Errorf("%q is ours and matches nothing of ours", filter)
	}
	if device := (identity{role: roleEndpoint, endpoint: "d1"}); device.maySubscribe(filter) != (filter == "meterline/v1/d1/down/command") {
		t.Errorf("an endpoint and %q", filter)
	}
	_, inner := shared(filter)
	for _, topic := range []string{topic, strings.NewReplacer("+", "x", "#", "y/z").Replace(inner), strings.TrimSuffix(inner, "/#")} {
		if !matched(inner, topic) || !ours(topic) {
			continue
		}
		if !mayMatchOurs(filter) {
			t.Errorf("%q matches %q, which is ours", filter, topic)
		}
		level := strings.Split(topic, "/")
		uplinks := len(level) >= 4 && level[1] == "v1" && level[3] == "up"
		if first, _, _ := strings.Cut(inner, "/"); first == "meterline" && service.maySubscribe(filter) && !uplinks {
			t.Errorf("a service may subscribe to %q, which matches %q", filter, topic)
		}
		if service.mayReceive(topic, "t2") || service.mayReceive(topic, "t1") && (!uplinks || len(level) != 5) {
			t.Errorf("a service may receive %q", topic)
		}
	}
}

func fuzzClientID(t *testing.T, clientID, endpoint string) {
	t.Helper()
	suffixed, ok := endpointClientID(clientID, fleet.DeviceID(endpoint))
	suffix, has := strings.CutPrefix(clientID, endpoint+":")
	want := has && suffix != "" && len(suffix) <= suffixMost
	if own := clientID == endpoint; ok != (own || want) || ok && suffixed == own {
		t.Errorf("%q of %q: %t, %t", clientID, endpoint, suffixed, ok)
	}
}

// fuzzHeader: whatever a command says of itself, it goes out as a packet that can be read, with properties that MQTT
// allows.
func fuzzHeader(t *testing.T, payload, _ string) {
	t.Helper()
	now := time.Now()
	m := message{topic: "meterline/v1/d1/down/command", payload: []byte(payload)}
	_ = json.Unmarshal(m.payload, &m.header) // as delivery does: what cannot be read is empty
	for _, version := range []byte{4, 5} {
		pk := m.packet(7, now)
		pk.ProtocolVersion = version
		var out, ours bytes.Buffer
		if err := pk.PublishEncode(&out); err != nil {
			t.Fatal(err)
		}
		if encodePublish(&ours, m.topic, 7, m.payload); version < 5 && !bytes.Equal(out.Bytes(), ours.Bytes()) {
			t.Errorf("%.200q went out as %.200q", payload, ours.Bytes())
		}
		wire, rest, err := cutPacket(out.Bytes())
		read, ok := publicationOf(wire, version)
		if err != nil || len(rest) > 0 || !ok || read.payload != payload || read.topic != m.topic || read.id != 7 || read.qos != 1 {
			t.Fatalf("%.200q went out as %.200q: %v", payload, out.Bytes(), err)
		}
		for _, p := range pk.Properties.User {
			if len(p.Val) > 1<<16-1 || !utf8.ValidString(p.Val) || strings.ContainsRune(p.Val, 0) {
				t.Errorf("the property %s is %.80q", p.Key, p.Val)
			}
		}
		checkExpiry(t, m, pk, now)
	}
}

func checkExpiry(t *testing.T, m message, pk packets.Packet, now time.Time) {
	t.Helper()
	left := m.ExpiresAt.Unix() - now.Unix()
	if got := int64(pk.Properties.MessageExpiryInterval); pk.ProtocolVersion == 5 && left > 1 && (got < min(left-1, 1<<30) || got > left+1) {
		t.Errorf("what expires in %d s went out as %d s", left, got)
	}
}
