package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fault"
	"meterline/meterread"
	"meterline/mqtt"
	"meterline/simulator"
	"meterline/testkit"
	"meterline/testkit/cluster"
	"meterline/testkit/proxy"
)

// device registers and connects one device of the fault's own.
func (s *scene) device(ctx context.Context, which string) (*device, *simulator.API, error) {
	of := s.direct(which)
	api, err := s.bait(ctx, s.apiNode(), of)
	if err != nil {
		return nil, nil, err
	}
	d, err := connect(of.ID, one(s, s.Gateways), false)
	return d, api, err
}

// apiNode is a backend that answers HTTP.
func (s *scene) apiNode() *cluster.Node {
	var some []*cluster.Node
	for _, n := range s.Backends {
		if n.API() {
			some = append(some, n)
		}
	}
	return one(s, some)
}

// stallDevices lets some of the connections of devices stand still, a tenth and at least one.
func stallDevices(directions ...proxy.Direction) func(context.Context, *scene) error {
	return func(ctx context.Context, s *scene) error {
		n := one(s, s.Gateways)
		if n.Front == nil {
			return fmt.Errorf("%w: there are no proxies", ErrNotHit)
		}
		conns := n.Front.Conns()
		s.rand.Shuffle(len(conns), func(i, j int) { conns[i], conns[j] = conns[j], conns[i] })
		conns = conns[:min(len(conns), 1+len(conns)/10)]
		before := n.Front.Stats()
		for _, c := range conns {
			for _, d := range directions {
				c.Set(d, proxy.Link{Flow: proxy.Stall})
			}
		}
		if err := s.keep(ctx); err != nil {
			return err
		}
		ended := 0
		for _, c := range conns {
			select {
			case <-c.Ended():
				ended++
			default:
			}
		}
		if held := n.Front.Stats().Held - before.Held; held > 0 || ended > 0 {
			s.saw("%d connections of %s stood still, %d pieces were held back, %d were given up", len(conns), n.Name, held, ended)
		}
		return n.Front.Heal()
	}
}

// cutDevices ends all connections of all devices at once.
func cutDevices(_ context.Context, s *scene) error {
	for _, n := range s.Gateways {
		if n.Front == nil {
			return fmt.Errorf("%w: there are no proxies", ErrNotHit)
		}
		if cut := n.Front.Reset(); cut > 0 {
			s.saw("%d connections of %s were reset", cut, n.Name)
		}
	}
	return nil
}

// flapMost is more connects in a minute than a device may have.
const flapMost = 40

// flap connects and disconnects a device until it is held off.
func flap(ctx context.Context, s *scene) error {
	of := s.direct("flap")
	if _, err := s.bait(ctx, s.apiNode(), of); err != nil {
		return err
	}
	n := one(s, s.Gateways)
	for i := range flapMost {
		d, err := connect(of.ID, n, false)
		if err != nil {
			s.saw("after %d connects: %v", i, err)
			return nil
		}
		d.close()
	}
	return nil
}

// newestWithin is how soon the older of two sessions is closed.
const newestWithin = 2 * time.Second

// connectTwice connects a device to one gateway and then to another, and again to the same.
func connectTwice(ctx context.Context, s *scene) error {
	old, _, err := s.device(ctx, "twice")
	if err != nil {
		return err
	}
	for _, n := range append([]*cluster.Node{s.Gateways[0]}, s.Gateways...) {
		next, err := connect(old.id, n, false)
		if err != nil {
			return err
		}
		began := time.Now()
		if !old.ends(2 * newestWithin) { // the machine may be busy; what is reported says how long it took
			return fmt.Errorf("the older session of %s is still there after %v", old.id, time.Since(began).Round(time.Millisecond))
		}
		s.saw("the session on %s ended the one before after %v", n.Name, time.Since(began).Round(time.Millisecond))
		old = next
	}
	old.close()
	return nil
}

// ends waits for the end of the device's session, for so long as this process is awake: on a machine that keeps it waiting, each
// bit of the time takes longer.
func (d *device) ends(within time.Duration) bool {
	for range within / pollEvery {
		select {
		case <-d.lost:
			return true
		case <-time.After(pollEvery):
		}
	}
	return false
}

// backlog lets all backends stand still while a device goes on, and then all of it must be stored, once.
func backlog(ctx context.Context, s *scene) error {
	d, _, err := s.device(ctx, "backlog")
	if err != nil {
		return err
	}
	defer d.close()
	for _, n := range s.Backends {
		if err := n.Pause(); err != nil {
			return err
		}
	}
	sent := 0
	for began := time.Now(); time.Since(began) < s.hold && ctx.Err() == nil; sent++ {
		if err := d.say(mqtt.Readings, reading(d.id, sent)); err != nil {
			return err
		}
	}
	for _, n := range s.Backends {
		if err := n.Resume(); err != nil {
			return err
		}
	}
	if sent == 0 {
		return ErrNotHit
	}
	s.saw("%d uplinks were acknowledged while all backends stood still", sent)
	return s.becomes(ctx, "the backlog is stored", sent, `SELECT count(*) FROM readings WHERE device_id = $1`, d.id)
}

// poisons are messages that nobody can understand, and the dead letter that each leaves.
var poisons = []string{
	`{`, `null`, `{"v":1}`, `{"v":99,"message_id":"x","readings":[]}`, `{"v":1,"message_id":7,"readings":[]}`,
	`{"v":1,"message_id":"x","readings":"many"}`, "\xff\xfe", `{"v":1,"message_id":"x","readings":[{"device_id":1,"value":NaN}]}`,
}

// poison sends messages that nobody can understand between good ones.
func poison(ctx context.Context, s *scene) error {
	d, _, err := s.device(ctx, "poison")
	if err != nil {
		return err
	}
	defer d.close()
	for i, bad := range poisons {
		if err := d.say(mqtt.Readings, bad); err != nil {
			return err
		}
		if err := d.say(mqtt.Readings, reading(d.id, i)); err != nil {
			return err
		}
	}
	if err := s.becomes(ctx, "each message that is poison is a dead letter", len(poisons), `SELECT count(*) FROM dead_letters WHERE endpoint_id = $1`, d.id); err != nil {
		return err
	}
	s.saw("%d messages of %s became dead letters", len(poisons), d.id)
	return s.becomes(ctx, "the good ones are stored", len(poisons), `SELECT count(*) FROM readings WHERE device_id = $1`, d.id)
}

// poisonPanic sends a message that panics whoever judges it.
func poisonPanic(ctx context.Context, s *scene) error {
	d, _, err := s.device(ctx, "panic")
	if err != nil {
		return err
	}
	defer d.close()
	// What the gateway notes of the device must be judged before, or it would be what panics.
	if err := d.say(mqtt.Readings, reading(d.id, 0)); err != nil {
		return err
	}
	if err := s.becomes(ctx, "the first reading is stored", 1, `SELECT count(*) FROM readings WHERE device_id = $1`, d.id); err != nil {
		return err
	}
	for _, n := range s.Backends {
		plan := fault.Plan{Points: []fault.Armed{{ID: s.id, Point: fault.JudgeFact + fault.Name(d.id), Action: fault.Panic}}}
		if err := n.Arm(plan); err != nil {
			return err
		}
	}
	if err := testkit.Pause(ctx, armedWithin); err != nil {
		return err
	}
	for i := range 3 {
		if err := d.say(mqtt.Readings, reading(d.id, 1+i)); err != nil {
			return err
		}
	}
	const stored = `SELECT count(*) FROM readings WHERE device_id = $1`
	const buried = `SELECT count(*) FROM dead_letters WHERE endpoint_id = $1 AND cause = '` + command.CausePanic + `'`
	if err := s.becomes(ctx, "the message that panics is a dead letter", 1, buried, d.id); err != nil {
		return err
	}
	s.saw("a message of %s panicked its judge and became a dead letter", d.id)
	return s.becomes(ctx, "the others are stored", 3, stored, d.id)
}

// armedWithin is how soon a process looks at its plan, and some more.
const armedWithin = 200 * time.Millisecond

// oddResults lets devices answer twice, after the end, for a command that does not exist, and for another device.
func oddResults(ctx context.Context, s *scene) error {
	d, api, err := s.device(ctx, "odd")
	if err != nil {
		return err
	}
	defer d.close()
	thief, _, err := s.device(ctx, "thief")
	if err != nil {
		return err
	}
	defer thief.close()
	v, err := api.Issue(ctx, order(d.id, time.Minute), s.id)
	if err != nil {
		return err
	}
	select {
	case <-d.got:
	case <-time.After(settleWithin):
		return fmt.Errorf("%s got no command", d.id)
	}
	for _, step := range []struct {
		from    *device
		command meterread.CommandID
		value   string
	}{{thief, v.ID, "666"}, {d, "no-such-command", "1"}, {d, v.ID, "1"}, {d, v.ID, "1"}, {d, v.ID, "2"}} {
		if err := step.from.say(mqtt.Result, answer(step.command, d.id, step.value)); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		what, query string
		arg         any
	}{
		{"the answer of another is a security event", `SELECT count(*) FROM events WHERE endpoint_id = $1`, thief.id},
		{"an answer to no command is a dead letter", `SELECT count(*) FROM dead_letters WHERE endpoint_id = $1`, d.id},
		{"the first answer counts once", `SELECT count(*) FROM operations WHERE command_id = $1 AND state = 'succeeded' AND late_result_at IS NOT NULL`, v.ID},
		{"the same answer is one reading", `SELECT count(*) FROM readings WHERE command_id = $1 AND value = '1' AND NOT late`, v.ID},
		{"another one is late", `SELECT count(*) FROM readings WHERE command_id = $1 AND late`, v.ID},
	} {
		if err := s.becomes(ctx, c.what, 1, c.query, c.arg); err != nil {
			return err
		}
		s.saw("%s", c.what)
	}
	return nil
}

// order asks for a reading of one device.
func order(id meterread.DeviceID, timeout time.Duration) simulator.Order {
	return simulator.Order{Kind: "meter.read", Mode: "async", Items: []meterread.Item{"1-0:1.8.0"}, TimeoutS: timeout.Seconds(),
		Targets: command.Selector{DeviceIDs: []meterread.DeviceID{id}}}
}

func answer(c meterread.CommandID, id meterread.DeviceID, value string) string {
	text, _ := json.Marshal(map[string]any{"v": 1, "message_id": "r", "results": []any{map[string]any{
		"command_id": c, "device_id": id, "attempt": 1, "status": "ok", "final": true,
		"readings": []any{map[string]any{"item": "1-0:1.8.0", "value": value, "unit": "kWh", "read_at": "2026-01-01T00:00:00Z"}},
	}}})
	return string(text)
}
