package load

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"

	"meterline/meterread"
	"meterline/mqtt"
	"meterline/simulator"
	"meterline/testkit/history"
)

// LieCode is the error code in results of those who do not speak for the device: no operation may ever have it.
const LieCode = "LIAR"

// liar lets the devices of a tenant say what no sound device would.
type liar struct {
	load   *Load
	tenant *tenant
	dice   *rand.Rand
	told   int
}

func (l *liar) run(ctx context.Context) {
	for pause(ctx, time.Duration(l.dice.ExpFloat64()*float64(l.load.o.Lies))) {
		l.told++
		id := fmt.Sprintf("lie-%016x", hash(fmt.Sprint(l.tenant.Name, l.load.o.Seed, l.told)))
		endpoint, u, intent := l.lie(id)
		if intent == "" {
			continue
		}
		u.ID = id
		l.load.recorder.intents.Store(id, intent)
		l.load.fleet.Hand(ctx, endpoint, u)
	}
}

func (l *liar) lie(id string) (meterread.DeviceID, simulator.Uplink, history.Intent) {
	site := l.tenant.sites[l.dice.IntN(len(l.tenant.sites))]
	own := site.Targets()[l.dice.IntN(len(site.Targets()))]
	switch l.dice.IntN(5) {
	case 0:
		return site.ID, l.poison(id, own), history.Poison
	case 1:
		unknown := meterread.CommandID(uuid.Must(uuid.NewV7()).String())
		return site.ID, l.result(id, unknown, own, "ok", ""), history.UnknownCommand
	case 2:
		return site.ID, l.reading(id, l.another(site.ID)), history.Foreign
	case 3:
		return l.foreignResult(id)
	}
	return l.late(id)
}

// another is a device that the endpoint does not speak for.
func (l *liar) another(endpoint meterread.DeviceID) meterread.DeviceID {
	for {
		site := l.tenant.sites[l.dice.IntN(len(l.tenant.sites))]
		if site.ID != endpoint {
			return site.Targets()[l.dice.IntN(len(site.Targets()))]
		}
		if len(l.tenant.sites) == 1 {
			return endpoint + "-x"
		}
	}
}

// endpointOf is who speaks for a device.
func (l *liar) endpointOf(d meterread.DeviceID) meterread.DeviceID {
	for _, s := range l.tenant.sites {
		for _, t := range s.Targets() {
			if t == d {
				return s.ID
			}
		}
	}
	return ""
}

// foreignResult answers an operation that is open, perhaps, in the place of its endpoint.
func (l *liar) foreignResult(id string) (meterread.DeviceID, simulator.Uplink, history.Intent) {
	o, some := l.tenant.known(false, l.dice)
	if !some || o.partly {
		return "", simulator.Uplink{}, ""
	}
	device := o.targets[l.dice.IntN(len(o.targets))]
	right := l.endpointOf(device)
	for _, s := range l.tenant.sites {
		if s.ID != right {
			return s.ID, l.result(id, meterread.CommandID(o.id), device, "error", LieCode), history.Foreign
		}
	}
	return "", simulator.Uplink{}, ""
}

// late answers an operation that has ended.
func (l *liar) late(id string) (meterread.DeviceID, simulator.Uplink, history.Intent) {
	o, some := l.tenant.known(true, l.dice)
	if !some || o.partly {
		return "", simulator.Uplink{}, ""
	}
	device := o.targets[l.dice.IntN(len(o.targets))]
	return l.endpointOf(device), l.result(id, meterread.CommandID(o.id), device, "ok", ""), history.AfterEnd
}

func (l *liar) result(id string, c meterread.CommandID, d meterread.DeviceID, status, code string) simulator.Uplink {
	r := map[string]any{"command_id": c, "device_id": d, "attempt": 1, "status": status, "final": true}
	if status == "ok" {
		r["readings"] = []any{value("", "1.000")}
	} else {
		r["code"] = code
	}
	return uplink(mqtt.Result, map[string]any{"v": 1, "message_id": id, "results": []any{r}})
}

func (l *liar) reading(id string, d meterread.DeviceID) simulator.Uplink {
	return uplink(mqtt.Readings, map[string]any{"v": 1, "message_id": id, "readings": []any{value(d, "666.000")}})
}

func value(d meterread.DeviceID, v string) map[string]any {
	m := map[string]any{"item": "1-0:1.8.0", "value": v, "unit": "kWh", "read_at": time.Now().UTC().Truncate(time.Microsecond), "quality": "valid"}
	if d != "" {
		m["device_id"] = d
	}
	return m
}

func uplink(c mqtt.Channel, body map[string]any) simulator.Uplink {
	payload, _ := json.Marshal(body) // it is ours
	return simulator.Uplink{Channel: c, Payload: payload}
}

// poison is something that cannot be understood, with its id in it, also in the part that is kept.
func (l *liar) poison(id string, d meterread.DeviceID) simulator.Uplink {
	kinds := []struct {
		channel mqtt.Channel
		text    string
	}{
		{mqtt.Result, `{"v":1,"message_id":"` + id + `","results":[{"command_id":`},
		{mqtt.Result, `{"v":99,"message_id":"` + id + `","results":[]}`},
		{mqtt.Result, `["` + id + `"]`},
		{mqtt.Event, `{"v":1,"message_id":"` + id + "\xff\xfe" + `","type":"alarm"}`},
		{mqtt.Readings, `{"v":1,"message_id":7,"poison":"` + id + `","readings":"none"}`},
		{mqtt.Readings, `{"v":1,"readings":` + strings.Repeat("[", 10_000) + `"` + id + `"` + strings.Repeat("]", 10_000) + `}`},
		{mqtt.Readings, `{"v":1,"readings":[{"poison":"` + id + `","device_id":"` + string(d) + `","item":"1-0:1.8.0","value":NaN,"read_at":"2026-01-01T00:00:00Z"}]}`},
		{mqtt.Readings, `{"v":1,"readings":[{"poison":"` + id + `","device_id":"` + string(d) + `","item":"1-0:1.8.0","value":"1e999","read_at":"2026-01-01T00:00:00Z"}]}`},
		{mqtt.Ack, `{"v":1,"command_id":"` + id + `","device_ids":"all","status":"accepted"}`},
	}
	k := kinds[l.dice.IntN(len(kinds))]
	return simulator.Uplink{Channel: k.channel, Payload: []byte(k.text)}
}

func hash(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
