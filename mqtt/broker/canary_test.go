package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
	"meterline/testkit"
)

// canary is in everything that nobody may read in a log. A secret made here ends with it.
const canary = "CaNaRy"

// panicking is a token source that panics while it holds the secret.
type panicking struct{ memTokens }

func (p panicking) TokenBySecret(ctx context.Context, secret string) (fleet.Token, error) {
	if strings.HasPrefix(secret, "panic") {
		_ = secret[len(secret)] // a runtime error: its text is not ours
	}
	return p.memTokens.TokenBySecret(ctx, secret)
}

func TestLogsShowNoSecretAndNoPayload(t *testing.T) {
	logged := &testkit.Journal{}
	back := &memRevocations{}
	r := start(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
		o.Tokens = panicking{memTokens{"mtl_" + canary: {ID: "t", Tenant: "t1", Scopes: []fleet.Scope{fleet.MQTTAdmin}}}}
		o.BackendSecret, o.Pepper, o.Revocations = canary, fleet.Pepper(canary), back
		o.BanAfter, o.FlapLimit = 5, 10
	})
	r.said.burst = math.MaxInt // every line
	for _, id := range []fleet.DeviceID{"d1", "d3"} {
		k := device(id, "t1", fleet.Direct)
		k.MAC = fleet.Pepper(canary).MAC(canary)
		r.creds.set(k)
	}

	d := r.listening(t, dev("d1").with(canary).v5())
	for _, channel := range []string{"ack", "result", "readings", "event", "nothing", "../down/command"} {
		d.publish("meterline/v1/d1/up/"+channel, `{"v":1,"x":"`+canary+`"}`, 1, 7)
		d.expect(packets.Puback)
	}
	service := r.connect(t, hi{id: "s", user: "service", pass: "mtl_" + canary, version: 5, will: "plant/gone"})
	service.subscribe("#", 1, 1)
	service.publish("$SYS/x", canary, 1, 2)
	backend := r.connect(t, hi{id: "b", user: "backend", pass: canary, version: 5})
	backend.publish("meterline/v1/d1/down/command", commandJSON("m1", time.Minute)[:20]+canary, 1, 3) // no JSON
	backend.publish("meterline/v1/d9/down/command", `{"v":1,"message_id":"m","params":"`+canary+`"}`, 1, 4)
	backend.publish("elsewhere", canary, 1, 5)
	for range 3 {
		backend.expect(packets.Puback)
	}
	backend.command("d1", "m2", 6)

	for range 8 { // wrong, and then banned
		r.answeredAny(t, hi{id: "d2", user: "d2", pass: canary})
		r.answeredAny(t, hi{id: "s", user: "service", pass: "wrong" + canary})
	}
	secret := strings.Repeat("s", secretLength-len(canary)) + canary
	r.answeredAny(t, hi{id: secret, user: secret, pass: "x"}) // in the wrong field
	r.answeredAny(t, hi{id: "mtl_" + canary, user: "mtl_" + canary, pass: "x"})
	r.answeredAny(t, hi{id: "d3", user: "d3", pass: canary, will: "x/" + "gone"})
	r.knock(t, hi{id: "p", user: "service", pass: "panic" + canary}).closed()
	for i := range 12 { // held off
		r.answeredAny(t, hi{id: fmt.Sprint("d1:", i), user: "d1", pass: canary})
	}
	for _, raw := range []string{
		"\x10\x80" + canary, "GET /" + canary, "\x10\x20\x00\x04MQTT\x04\xc2\x00\x00\x00\x02d1\x00\x09" + canary + canary + canary,
		"\x10\x18\x00\x04MQTT\x04\xc2\x00\x00\x00\x02d1\x00\x02d1\x00\x06" + canary + "\x30\x08\x00\xff" + canary, "\xf0\x06" + canary,
	} {
		conn, err := net.Dial("tcp", r.Addr("mqtt"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(raw))
		_ = conn.(*net.TCPConn).CloseWrite()
		(&client{t: t, conn: conn}).drained()
	}
	d.publish("meterline/v1/d1/up/event", canary, 2, 8) // refused
	d.closed()
	again := r.connect(t, dev("d3").with(canary))
	r.log.onAppend(func(context.Context, []command.Uplink) error { return errors.New("full") })
	again.publish("meterline/v1/d3/up/event", canary, 1, 9)
	again.closed()
	r.log.onAppend(nil)
	back.put(errors.New("away"))
	r.awaitMetric(t, 1, "revocation_failures_total")
	r.awaitMetric(t, 1, "panics_total")
	r.shutdown(t)

	said := logged.Text()
	for _, happened := range []string{"client refused", "recovered from a panic", "banned for wrong secrets", "held off", "endpoint disconnected", "publish refused"} {
		if !strings.Contains(said, happened) {
			t.Errorf("nothing was logged of %q: the test does not reach it", happened)
		}
	}
	for line := range strings.Lines(said) {
		if strings.Contains(line, canary) {
			t.Errorf("logged: %s", line)
		}
	}
}

// answeredAny connects and leaves, whatever the answer.
func (r *rig) answeredAny(t testing.TB, h hi) {
	t.Helper()
	c := r.knock(t, h)
	_, _ = c.read(waitMost)
	_ = c.conn.Close()
}

// drained reads raw bytes until the broker closes.
func (c *client) drained() {
	_ = c.conn.SetReadDeadline(time.Now().Add(waitMost))
	for b := make([]byte, 512); ; {
		if _, err := c.conn.Read(b); err != nil {
			_ = c.conn.Close()
			return
		}
	}
}
