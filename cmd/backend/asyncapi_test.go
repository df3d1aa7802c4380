package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit"
)

// wirePage is docs/asyncapi.yaml, and what of it was seen.
type wirePage struct {
	mu       sync.Mutex
	channels map[string]*wireChannel
	strange  []string
}

type wireChannel struct {
	address *regexp.Regexp
	payload *jsonschema.Schema
	seen    int
}

func readWirePage(t *testing.T) *wirePage {
	t.Helper()
	text, err := os.ReadFile("../../docs/asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var page struct {
		Channels map[string]struct {
			Address  string
			Messages map[string]any
		}
		Components struct {
			Messages map[string]struct {
				Payload struct {
					Ref string `yaml:"$ref"`
				}
			}
		}
	}
	var plain any
	if err := yaml.Unmarshal(text, &page); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &plain); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(plain)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat() // times are times
	if err := compiler.AddResource("http://meterline.invalid/asyncapi.json", document); err != nil {
		t.Fatal(err)
	}
	p := &wirePage{channels: map[string]*wireChannel{}}
	for name, c := range page.Channels {
		for message := range c.Messages {
			payload, err := compiler.Compile("http://meterline.invalid/asyncapi.json" + page.Components.Messages[message].Payload.Ref)
			if err != nil {
				t.Fatal(err)
			}
			address := strings.ReplaceAll(regexp.QuoteMeta(c.Address), `\{endpoint\}`, `[A-Za-z0-9._-]{1,64}`)
			p.channels[name] = &wireChannel{address: regexp.MustCompile(`^` + address + `$`), payload: payload}
		}
	}
	return p
}

// see looks at a message that was on the wire.
func (p *wirePage) see(_ paho.Client, m paho.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.channels {
		if !c.address.MatchString(m.Topic()) {
			continue
		}
		c.seen++
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Payload()))
		if err == nil {
			err = c.payload.Validate(v)
		}
		if err != nil {
			p.strange = append(p.strange, fmt.Sprintf("%s: %v: %s", m.Topic(), err, m.Payload()))
		}
		return
	}
	p.strange = append(p.strange, m.Topic()+": no such channel")
}

// soFar are the channels that nothing has come on, and what the page does not say.
func (p *wirePage) soFar() (unseen, strange []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, c := range p.channels {
		if c.seen == 0 {
			unseen = append(unseen, name)
		}
	}
	return unseen, slices.Clone(p.strange)
}

// What simulated meters and IPCs publish and a backend sends is what docs/asyncapi.yaml says: on its topics and no others, and
// all of them are used; by its schemas, for each kind of command.
func TestAsyncAPIIsWhatIsOnTheWire(t *testing.T) {
	t.Parallel()
	h, page := newHouse(t, nil), readWirePage(t)
	var made struct{ Token string }
	h.must("POST", "/v1/tokens", `{"name":"listener","scopes":["mqtt:admin"]}`).into(t, &made)
	opts := paho.NewClientOptions().AddBroker("tcp://" + h.mqtt).SetClientID("listener").SetUsername("service").SetPassword(made.Token).SetOrderMatters(true)
	listener := paho.NewClient(opts)
	if c := listener.Connect(); !c.WaitTimeout(waitMost) || c.Error() != nil {
		t.Fatal(c.Error())
	}
	t.Cleanup(func() { listener.Disconnect(0) })
	if s := listener.Subscribe("meterline/#", 1, page.see); !s.WaitTimeout(waitMost) || s.Error() != nil {
		t.Fatal(s.Error())
	}

	sites := (simulator.Layout{Prefix: "wire", IPCs: 1, MetersPerIPC: 3, BusesPerIPC: 1, Direct: 1, Key: fleet.NewSecret()}).Sites()
	api := simulator.NewAPI(h.http, h.token)
	t.Cleanup(api.Close)
	if err := api.Install(t.Context(), sites, "wire"); err != nil {
		t.Fatal(err)
	}
	behaviour := simulator.DefaultBehaviour()
	behaviour.AnswerMin, behaviour.AnswerMax, behaviour.BusTimeoutRate, behaviour.PushEvery = 0, 10*time.Millisecond, 0, 100*time.Millisecond
	behaviour.Faults.Error = 0.3 // of which some are errors
	meters, err := simulator.New(simulator.Options{Brokers: []string{h.mqtt}, Sites: sites, Behaviour: behaviour})
	if err != nil {
		t.Fatal(err)
	}
	h.stack.Go("simulated meters", meters.Run)

	for _, kind := range command.Kinds {
		body := map[string]any{"kind": kind, "targets": map[string]any{"group": "wire"}}
		switch kind {
		case command.MeterRead:
			body["items"] = []meterread.Item{"1-0:1.8.0", "1-0:32.7.0"}
		case command.MeterRelay:
			body["params"] = map[string]string{"state": "open"}
		}
		b, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		v := h.issue(string(b), "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		testkit.Eventually(t, waitMost, func() bool {
			var now command.View
			h.must("GET", "/v1/commands/"+string(v.ID), "").into(t, &now)
			return now.Status != command.StatusRunning
		}, "the command to end")
	}
	var unseen, strange []string
	testkit.Eventually(t, waitMost, func() bool {
		unseen, strange = page.soFar()
		return len(unseen) == 0 || len(strange) > 0
	}, "something to come on each channel")
	for _, what := range strange {
		t.Error(what)
	}
}
