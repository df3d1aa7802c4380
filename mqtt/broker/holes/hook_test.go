package holes_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
)

func wrappedPlain(t *testing.T) {
	c := spawn(t, spec{Hook: "wrapped"})
	connect(t, c.at, service("dev").five()).publish("news", nil, 1, 1)
	if !c.dead(waitMost) {
		gone(t, "the process lives")
	}
	t.Logf("OnPublish returns a wrapped packets.Code to a client of MQTT 5: the process dies, %q", panicOf(c.said()))
}

// refusedUplink publishes an uplink that the log does not take, and wants no PUBACK but the end of the connection.
func refusedUplink(t *testing.T, at string, h hello) {
	d := connect(t, at, h)
	d.publish(readings(h.id), payload("", 1, 0), 1, 1)
	for _, pk := range d.closed(waitMost) {
		if pk.FixedHeader.Type == packets.Puback {
			t.Errorf("PUBACK %#x", pk.ReasonCode)
		}
	}
}

func wrappedGateway(t *testing.T) {
	c := spawn(t, spec{Ours: true, Log: "wrapped"})
	refusedUplink(t, c.at, endpoint("d1").five())
	if !connect(t, c.at, endpoint("d2")).alive(waitMost) || c.dead(0) {
		t.Error("another device is not served")
	}
}

func panicPlain(t *testing.T) {
	c := spawn(t, spec{Hook: "panic"})
	h := service("dev")
	h.pass = "panic"
	open(t, c.at, h).hello(h)
	if !c.dead(waitMost) {
		gone(t, "the process lives")
	}
	t.Logf("a hook panics: the process dies, %q", panicOf(c.said()))
}

// recovered makes what is asked about h panic, and wants nobody else to notice.
func recovered(t *testing.T, h hello) {
	c := spawn(t, spec{Ours: true})
	witness := connect(t, c.at, endpoint("d1"))
	bad := open(t, c.at, h)
	bad.hello(h)
	for _, pk := range bad.closed(waitMost) {
		if pk.FixedHeader.Type == packets.Connack && pk.ReasonCode == 0 {
			t.Error("let in")
		}
	}
	if c.dead(100 * time.Millisecond) {
		t.Fatalf("the process died: %s", panicOf(c.said()))
	}
	if !witness.alive(waitMost) || !connect(t, c.at, endpoint("d2")).alive(waitMost) {
		t.Error("others notice")
	}
}

func panicService(t *testing.T) {
	h := service("x")
	h.pass = "panic"
	recovered(t, h)
}

func panicEndpoint(t *testing.T) { recovered(t, endpoint("panic")) }

func errorAckPlain(t *testing.T) {
	at := spawn(t, spec{Hook: "fails"}).at
	for _, h := range []hello{service("v4"), service("v5").five()} {
		c := connect(t, at, h)
		c.publish("news", nil, 1, 1)
		if pk := c.want(packets.Puback); pk.ReasonCode >= packets.ErrUnspecifiedError.Code {
			gone(t, "PUBACK %#x", pk.ReasonCode)
		}
	}
	t.Log("OnPublish returns an error: PUBACK with success, in 3.1.1 and 5")
}

func errorAckEndpoint(t *testing.T) {
	o := ours(t)
	o.log.fail(errStore)
	refusedUplink(t, o.address(), endpoint("d1"))
	if got := o.log.of(command.UplinkReadings); len(got) > 0 {
		t.Errorf("the log has %v", got)
	}
	o.log.fail(nil)
	connect(t, o.address(), endpoint("d1").five()).feedAll(readings("d1"), 1, 2, 0)
	o.log.await(t, command.UplinkReadings, 1)
}

// A publish at QoS 1 to a topic that nobody may publish to.
func noAnswerPlain(t *testing.T) {
	c := connect(t, plain(t), service("dev"))
	c.publish("$SYS/broker/version", []byte("x"), 1, 1)
	if pk, err := c.next(silence); err == nil {
		gone(t, "%s", packets.PacketNames[pk.FixedHeader.Type])
	}
	if !c.alive(waitMost) {
		gone(t, "disconnected")
	}
	t.Log("QoS 1 to $SYS/…: neither PUBACK nor the end of the connection; a client that waits for it waits for ever")
}

// answered wants an answer to a publish that is not allowed: a reason, or the end of the connection.
func answered(t *testing.T, at string, h hello) {
	for _, h := range []hello{h, h.five()} {
		for _, topic := range []string{"$SYS/broker/version", "meterline/v1/d1/down/command"} {
			c := connect(t, at, h)
			c.publish(topic, []byte("x"), 1, 1)
			pk, err := c.next(waitMost)
			for err == nil && pk.FixedHeader.Type == packets.Disconnect {
				pk, err = c.next(waitMost)
			}
			switch {
			case err != nil && os.IsTimeout(err):
				t.Errorf("version %d, %s: no answer", h.version, topic)
			case err == nil && (pk.FixedHeader.Type != packets.Puback || h.version == 5 && pk.ReasonCode < packets.ErrUnspecifiedError.Code):
				t.Errorf("version %d, %s: %s %#x", h.version, topic, packets.PacketNames[pk.FixedHeader.Type], pk.ReasonCode)
			}
		}
	}
}

func noAnswerEndpoint(t *testing.T) { answered(t, ours(t).address(), endpoint("d2")) }
func noAnswerService(t *testing.T)  { answered(t, ours(t).address(), service("dev")) }

const forbidden = "meterline/v1/d1/down/command"

func willPlain(t *testing.T) {
	at := spawn(t, spec{Hook: "acl"}).at
	sub := connect(t, at, service("sub"))
	sub.subscribe("meterline/#")
	h := service("dev")
	c := connect(t, at, h)
	c.publish(forbidden, nil, 1, 1)
	c.closed(waitMost) // the ACL does its work
	h.will = forbidden
	connect(t, at, h).die()
	pks, _ := sub.until(true, func(pks []packets.Packet) bool { return len(pks) > 0 })
	if len(pks) == 0 {
		gone(t, "the will was not published")
	}
	t.Logf("a will on a topic that the ACL forbids: published %d times", len(pks))
}

func refusedWill(t *testing.T, h hello) {
	o := ours(t)
	d := o.online(t, endpoint("d1"))
	for _, h := range []hello{h, h.five()} {
		h.will = forbidden
		if c := knock(t, o.address(), h); c.connack.ReasonCode == 0 {
			t.Errorf("version %d: let in", h.version)
			c.die()
		}
	}
	if pks, _ := d.rest(true); len(pks) > 0 {
		t.Errorf("the device got %s", pks[0].Payload)
	}
}

func willEndpoint(t *testing.T) { refusedWill(t, endpoint("d2")) }
func willService(t *testing.T)  { refusedWill(t, service("dev")) }

const acknowledged = 100 // before the process is killed

func killedPlain(t *testing.T) {
	c := spawn(t, spec{})
	sub := connect(t, c.at, service("sub").keep())
	sub.subscribe("jobs")
	sub.leave()
	connect(t, c.at, service("pub")).feedAll("jobs", 0, acknowledged, 0)
	c.kill()
	back := connect(t, plain(t), service("sub").keep())
	pks, _ := back.rest(true)
	if len(pks) == acknowledged {
		gone(t, "all came")
	}
	t.Logf("SIGKILL after the PUBACK of message %d, without a store: %d lost", acknowledged, acknowledged-len(pks))
}

func killedEndpoint(t *testing.T) {
	const times = 3
	kept := filepath.Join(t.TempDir(), "log")
	for i := range times {
		c := spawn(t, spec{Ours: true, Log: kept})
		connect(t, c.at, endpoint("d1")).feedAll(readings("d1"), i*acknowledged, (i+1)*acknowledged, 0)
		c.kill()
	}
	text, err := os.ReadFile(kept)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for line := range strings.Lines(string(text)) {
		n := 0
		if _, err := fmt.Sscanf(line, "readings %08d", &n); err == nil {
			got = append(got, n)
		}
	}
	inOrder(t, got, 0, times*acknowledged)
	t.Logf("SIGKILL after the PUBACK of message %d, %d times: %d lost", acknowledged, times, len(without(times*acknowledged, got)))
}

// An empty client id without a clean session.
func connackPlain(t *testing.T) {
	c := knock(t, plain(t), service("").keep())
	if c.connack.ReasonCode <= 5 {
		gone(t, "CONNACK %#x", c.connack.ReasonCode)
	}
	t.Logf("3.1.1, an empty client id and no clean session: CONNACK %#x; 3.1.1 has 0 to 5", c.connack.ReasonCode)
}

func legalConnack(t *testing.T, h hello) {
	h.id = ""
	if c := knock(t, ours(t).address(), h.keep()); c.connack.ReasonCode != 2 {
		t.Errorf("CONNACK %#x", c.connack.ReasonCode)
	}
}

func connackEndpoint(t *testing.T) { legalConnack(t, endpoint("d1")) }
func connackService(t *testing.T)  { legalConnack(t, service("")) }

func qos2Plain(t *testing.T) {
	c := connect(t, spawn(t, spec{Hook: "quota"}).at, service("dev").five())
	c.publish("news", nil, 2, 1)
	pk := c.want(packets.Puback)
	t.Logf("OnPublish refuses a publish at QoS 2: PUBACK %#x in place of PUBREC", pk.ReasonCode)
}

// refusal is the answer to a publish at QoS 2: the reason of a PUBREC or a DISCONNECT.
func refusal(t *testing.T, at string, h hello, topic string) byte {
	c := connect(t, at, h.five())
	c.publish(topic, []byte("x"), 2, 1)
	pk, err := c.next(waitMost)
	if err != nil || pk.FixedHeader.Type != packets.Pubrec && pk.FixedHeader.Type != packets.Disconnect {
		t.Fatalf("%s, %v", packets.PacketNames[pk.FixedHeader.Type], err)
	}
	return pk.ReasonCode
}

func qos2Endpoint(t *testing.T) {
	if code := refusal(t, ours(t).address(), endpoint("d1"), readings("d1")); code != packets.ErrQosNotSupported.Code {
		t.Errorf("%#x", code)
	}
}

func qos2Service(t *testing.T) {
	if code := refusal(t, ours(t).address(), service("dev"), readings("d1")); code != packets.ErrNotAuthorized.Code {
		t.Errorf("%#x", code)
	}
}
