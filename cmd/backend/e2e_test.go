package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"meterline/command"
	"meterline/meterread"
	"meterline/testkit"
)

// waitMost is how long a test waits for what must come. Only a test that fails waits so long.
const waitMost = time.Minute

// house is a standalone for tests: the real thing in one process, on ports of its own.
type house struct {
	*standalone
	t *testing.T
}

func newHouse(t *testing.T, tune func(*command.WorkerOptions)) *house {
	t.Helper()
	return openHouse(t, t.TempDir(), tune)
}

func openHouse(t *testing.T, data string, tune func(*command.WorkerOptions)) *house {
	t.Helper()
	return houseOf(t, &standaloneCmd{Data: data, tune: tune})
}

// houseOf opens a standalone, but for what is the same for all tests.
func houseOf(t *testing.T, one *standaloneCmd) *house {
	t.Helper()
	one.HTTP, one.limits = "127.0.0.1:0", limits{MaxOpen: command.DefaultMaxOpen}
	one.MQTT, one.Anonymous, one.MaxPayload = "127.0.0.1:0", "none", 256<<10
	s, err := one.open(t.Context(), slog.New(slog.NewTextHandler(testWriter{t}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stack.Unwind)
	return &house{s, t}
}

// testWriter hands the log to the test. A part that has not ended within its grace, since the machine stood still, may have
// something to say when the test is over: that is no reason for all the others to fail.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	defer func() { _ = recover() }() // of a test that has completed
	w.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// answer is what the API said.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%d: %v: %s", a.status, err, a.body)
	}
}

// call does a request; headers come in pairs.
func (h *house) call(method, path, body string, headers ...string) answer {
	h.t.Helper()
	request, err := http.NewRequestWithContext(context.Background(), method, h.http+path, bytes.NewReader([]byte(body)))
	if err != nil {
		h.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+h.token)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		h.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, b}
}

// must is call for what has to work.
func (h *house) must(method, path, body string, headers ...string) answer {
	h.t.Helper()
	a := h.call(method, path, body, headers...)
	if a.status >= 300 {
		h.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	return a
}

// direct registers a direct meter and gives its password.
func (h *house) direct(id string) string {
	h.t.Helper()
	var made struct {
		Credentials struct{ Password string }
	}
	h.must("POST", "/v1/devices", `{"id":"`+id+`","name":"`+id+`","kind":"direct"}`).into(h.t, &made)
	return made.Credentials.Password
}

// issue posts a command.
func (h *house) issue(body string, headers ...string) command.View {
	h.t.Helper()
	var v command.View
	h.must("POST", "/v1/commands", body, headers...).into(h.t, &v)
	return v
}

func read(device, mode, more string) string {
	return `{"kind":"meter.read","mode":"` + mode + `","targets":{"device_ids":["` + device + `"]},"items":["1-0:1.8.0"]` + more + `}`
}

// operation is the one operation of a command, as polled.
func (h *house) operation(id command.ID) command.OperationView {
	h.t.Helper()
	var v command.View
	h.must("GET", "/v1/commands/"+string(id), "").into(h.t, &v)
	if len(v.Operations) != 1 {
		h.t.Fatalf("%d operations in %+v", len(v.Operations), v)
	}
	return v.Operations[0]
}

// recorded is the one operation of a command, as the record has it: in one process whatever was acknowledged is in there.
func (h *house) recorded(id command.ID) command.OperationView {
	h.t.Helper()
	var list struct{ Items []command.OperationView }
	h.must("GET", "/v1/operations?command_id="+string(id), "").into(h.t, &list)
	if len(list.Items) != 1 {
		h.t.Fatalf("%d operations in %+v", len(list.Items), list)
	}
	return list.Items[0]
}

// late waits until the operation notes a late result, as polled: the live state follows the record.
func (h *house) late(id command.ID) command.OperationView {
	h.t.Helper()
	var o command.OperationView
	testkit.Eventually(h.t, waitMost, func() bool { o = h.operation(id); return o.LateResultAt != nil }, "the operation notes a late result")
	return o
}

// become waits until the operation is in the state, as polled.
func (h *house) become(id command.ID, s command.State) command.OperationView {
	h.t.Helper()
	var o command.OperationView
	testkit.Eventually(h.t, waitMost, func() bool { o = h.operation(id); return o.State == s }, "operation becomes "+string(s))
	return o
}

// player plays a device by hand over a real MQTT client.
type player struct {
	t        *testing.T
	client   paho.Client
	id       string
	commands chan paho.Message
	sent     []paho.Token
}

// play connects as the device and subscribes to its commands. With hold, PUBACKs are sent by the test.
func (h *house) play(id, password string, hold bool) *player {
	h.t.Helper()
	p := &player{t: h.t, id: id, commands: make(chan paho.Message, 100)}
	opt := paho.NewClientOptions().AddBroker("tcp://" + h.mqtt).SetClientID(id).SetUsername(id).SetPassword(password).
		SetAutoReconnect(false).SetAutoAckDisabled(hold).SetOrderMatters(false)
	p.client = paho.NewClient(opt)
	wait(h.t, p.client.Connect())
	h.t.Cleanup(func() { p.client.Disconnect(0) })
	wait(h.t, p.client.Subscribe("meterline/v1/"+id+"/down/command", 1, func(_ paho.Client, m paho.Message) { p.commands <- m }))
	return p
}

func wait(t *testing.T, token paho.Token) {
	t.Helper()
	if !token.WaitTimeout(waitMost) {
		t.Fatalf("no answer from the broker within %s", waitMost)
	}
	if err := token.Error(); err != nil {
		t.Fatal(err)
	}
}

// next waits for a command.
func (p *player) next(within time.Duration) (command.Message, paho.Message) {
	p.t.Helper()
	select {
	case m := <-p.commands:
		var c command.Message
		if err := json.Unmarshal(m.Payload(), &c); err != nil {
			p.t.Fatal(err)
		}
		return c, m
	case <-time.After(within):
		p.t.Fatalf("%s got no command within %s", p.id, within)
	}
	return command.Message{}, nil
}

// up publishes and waits for the PUBACK.
func (p *player) up(kind string, payload any) {
	p.t.Helper()
	b, isRaw := payload.([]byte)
	if !isRaw {
		var err error
		if b, err = json.Marshal(payload); err != nil {
			p.t.Fatal(err)
		}
	}
	wait(p.t, p.client.Publish("meterline/v1/"+p.id+"/up/"+kind, 1, false, b))
}

// result is an up/result message with one reading of the value.
func result(id command.ID, device, value string, at time.Time) map[string]any {
	return map[string]any{"v": 1, "message_id": "r-" + value + "-" + string(id), "results": []any{map[string]any{
		"command_id": id, "device_id": device, "attempt": 1, "status": "ok", "final": true,
		"readings": []any{map[string]any{"item": "1-0:1.8.0", "value": value, "unit": "kWh", "read_at": at.UTC().Format(time.RFC3339Nano)}},
	}}}
}

// stored lists the stored readings of a device.
func (h *house) stored(device string) []meterread.Reading {
	h.t.Helper()
	var list struct{ Items []meterread.Reading }
	h.must("GET", "/v1/readings?device_id="+device, "").into(h.t, &list)
	return list.Items
}

// letters lists the causes of dead letters.
func (h *house) letters() []command.DeadLetter {
	h.t.Helper()
	var list struct{ Items []command.DeadLetter }
	h.must("GET", "/v1/dead-letters?limit=1000", "").into(h.t, &list)
	return list.Items
}

// security lists security events about a device.
func (h *house) security(device string) []command.Event {
	h.t.Helper()
	var list struct{ Items []command.Event }
	h.must("GET", "/v1/events?type=security&device_id="+device, "").into(h.t, &list)
	return list.Items
}
