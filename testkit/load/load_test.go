package load

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	"meterline/meterread"
	"meterline/mqtt"
	"meterline/simulator"
	"meterline/testkit/history"
)

func someTenants() (acme, bolt *tenant) {
	lay := func(name string) *tenant {
		return &tenant{Tenant: Tenant{Name: name}, sites: simulator.Layout{Prefix: name, IPCs: 2, MetersPerIPC: 3, Direct: 2}.Sites()}
	}
	acme, bolt = lay("acme"), lay("bolt")
	acme.others, bolt.others = []*tenant{bolt}, []*tenant{acme}
	return acme, bolt
}

func TestOptionsNameWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := Options{Deadline: time.Second}.withDefaults()
	for _, name := range []string{"MQTT", "API", "Tenants", "History", "deadline"} {
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	o, err := Options{MQTT: []string{"x"}, API: []string{"x"}, Tenants: []Tenant{{}}, History: "x", Cuts: -1}.withDefaults()
	if err != nil || o.Clients != 2 || o.Cuts != -1 || o.Start.IsZero() {
		t.Errorf("%+v %v", o, err)
	}
}

// What is called poison cannot be understood, or its one part cannot; and its id is in what is kept of it.
func TestPoisonIsPoison(t *testing.T) {
	t.Parallel()
	acme, _ := someTenants()
	l := &liar{tenant: acme, dice: rand.New(rand.NewPCG(1, 1))}
	seen := map[string]bool{}
	for range 200 {
		u := l.poison("lie-1", "acme-direct-00001")
		seen[string(u.Payload)] = true
		var err error
		var parts []meterread.Bad
		switch u.Channel {
		case mqtt.Result:
			var m meterread.Results
			m, err = meterread.DecodeResults(u.Payload)
			parts = m.Bad
		case mqtt.Readings:
			var m meterread.Readings
			m, err = meterread.DecodeReadings(u.Payload)
			parts = m.Bad
		case mqtt.Event:
			_, err = meterread.DecodeEvent(u.Payload)
		case mqtt.Ack:
			_, err = meterread.DecodeAck(u.Payload)
		}
		kept := string(u.Payload)
		if err == nil && len(parts) == 1 {
			kept = string(parts[0].Raw)
		} else if err == nil {
			t.Errorf("%.80q on %s was understood", u.Payload, u.Channel)
		}
		if !strings.Contains(kept, "lie-1") {
			t.Errorf("the id is not in %.80q", kept)
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d kinds of poison, want 9", len(seen))
	}
}

// Lies are about devices that the sender does not speak for, or about what has ended.
func TestLiesAreLies(t *testing.T) {
	t.Parallel()
	acme, _ := someTenants()
	open := &order{key: "k1", id: "c1", targets: []meterread.DeviceID{"acme-ipc-0001-m001"}}
	over := &order{key: "k2", id: "c2", targets: []meterread.DeviceID{"acme-direct-00002"}}
	acme.remember(open)
	acme.remember(over)
	acme.end(over)
	l := &liar{tenant: acme, dice: rand.New(rand.NewPCG(1, 1))}
	told := map[history.Intent]int{}
	for range 300 {
		endpoint, u, intent := l.lie("lie-1")
		told[intent]++
		text := string(u.Payload)
		switch {
		case intent == history.Foreign && strings.Contains(text, LieCode) && endpoint == "acme-ipc-0001":
			t.Errorf("%s answers for its own meter: %s", endpoint, text)
		case intent == history.Foreign && strings.Contains(text, `"device_id":"`+string(endpoint)):
			t.Errorf("%s speaks for itself: %s", endpoint, text)
		case intent == history.AfterEnd && (endpoint != "acme-direct-00002" || !strings.Contains(text, `"c2"`)):
			t.Errorf("%s: %s is not about what has ended", endpoint, text)
		}
	}
	for _, i := range []history.Intent{history.Poison, history.UnknownCommand, history.Foreign, history.AfterEnd} {
		if told[i] == 0 {
			t.Errorf("%s was never told: %v", i, told)
		}
	}
}

func TestLeaks(t *testing.T) {
	t.Parallel()
	acme, _ := someTenants()
	c := &client{tenant: acme}
	for body, want := range map[string]int{
		`{"items":[{"device_id":"acme-ipc-0001-m001","tenant":"acme"}]}`: 0,
		`{"items":[{"device_id":"bolt-ipc-0001-m001"}]}`:                 1,
		`{"tenant":"bolt"}`: 1,
		`{"detail":"no such device: \"bolt-direct-00001\""}`: 0, // it asked for that
	} {
		if got := c.leaks([]byte(body), "/v1/devices/bolt-direct-00001"); len(got) != want {
			t.Errorf("%s: %q", body, got)
		}
	}
}

// Only what surely was not done is not asked for again.
func TestAnUnknownOutcomeIsNotAnAnswer(t *testing.T) {
	t.Parallel()
	for status, known := range map[int]bool{0: false, 200: true, 202: true, 404: true, 409: false, 422: true, 429: false, 500: false, 503: false} {
		a := answer{status: status, header: http.Header{"Retry-After": {"2"}}}
		if a.known() != known {
			t.Errorf("%d: known is %v", status, a.known())
		}
		if later := a.later(); status != 0 && later != 2*time.Second {
			t.Errorf("%d: again after %s", status, later)
		}
	}
}

// The same seed decides the same; another one, or another actor, does not.
func TestDecisionsDependOnSeedAndName(t *testing.T) {
	t.Parallel()
	acme, _ := someTenants()
	decide := func(seed uint64, name string) string {
		l := &Load{o: Options{Seed: seed, Deadline: 8 * time.Second}}
		c := &client{load: l, tenant: acme, dice: l.dice(name)}
		var all strings.Builder
		for range 20 {
			all.Write(c.decide().body)
		}
		return all.String()
	}
	first, again := decide(1, "a"), decide(1, "a")
	if first != again || first == decide(2, "a") || first == decide(1, "b") {
		t.Error("decisions do not follow the seed")
	}
}
