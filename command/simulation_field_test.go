package command_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// gateway is an MQTT edge node. When it starts again it is another incarnation, and its sessions are gone.
type gateway struct {
	world       *world
	id          string
	incarnation int
	up          bool
	beats       int64
	beaten      time.Time
}

func (g *gateway) name() string { return g.id + "/" + fmt.Sprint(g.incarnation) }

func (g *gateway) start() {
	if !g.up {
		g.incarnation++
		g.up = true
		g.world.trace.add(g.name(), "starts")
	}
}

func (g *gateway) stop() {
	g.up = false
	g.world.trace.add(g.name(), "is killed")
	for _, e := range g.world.points {
		if e.gateway == g {
			e.gateway = nil
		}
	}
}

func (w *world) gatewayOf(id string) *gateway {
	return w.gateways[slices.IndexFunc(w.gateways, func(g *gateway) bool { return g.id == id })]
}

// beat writes the heartbeats that were due meanwhile.
func (w *world) beat() {
	for _, g := range w.gateways {
		if g.up && time.Since(g.beaten) >= time.Second {
			g.beats++
			g.beaten = time.Now()
			w.beats[command.Gateway{ID: g.id, Incarnation: fmt.Sprint(g.incarnation)}] = g.beats
		}
	}
}

// rollCall writes all presence again, and says who is connected.
func (w *world) rollCall() {
	w.trace.add("roll call")
	for _, e := range w.points {
		if e.online() {
			w.presence[e.id] = e.session()
			e.hint(command.UplinkConnected, e.epoch, e.gateway.name(), "")
		}
	}
}

// stumble lets something of the edge fail, or come back.
func (w *world) stumble() {
	e := w.points[w.draw.IntN(len(w.points))]
	g := w.gateways[w.draw.IntN(len(w.gateways))]
	switch n := w.draw.IntN(12); {
	case n == 0 && g.up:
		g.stop()
	case n <= 1 || !g.up:
		g.start()
	case n == 2:
		w.trace.add("the log is away")
		w.logAway = time.Now().Add(w.upTo(12 * time.Second))
	case n == 3:
		w.trace.add("the record is away")
		w.recordAway = time.Now().Add(w.upTo(8 * time.Second))
	case n == 4:
		w.trace.add("the log cannot be read")
		w.logUnread = time.Now().Add(w.upTo(12 * time.Second))
	case e.online() && n < 8:
		e.disconnect()
	default:
		e.connect(g)
	}
}

// away says whether something is still away.
func (w *world) away(until time.Time) bool { return !w.calm && until.After(time.Now()) }

// take is what becomes of a message that a backend publishes.
func (g *gateway) take(to command.DeviceID, m command.Message, done func(error)) {
	w := g.world
	e := w.point(to)
	arrives := func(d time.Duration) {
		w.put(d, "message reaches "+string(to), func() { e.receive(g, m) })
	}
	switch {
	case !g.up:
		w.put(w.upTo(time.Second), "no gateway", func() { done(command.ErrGatewayGone) })
		return
	case w.chance(w.profile.lost):
		w.trace.add("lost")
		if w.chance(50) {
			w.put(0, "taken", func() { done(nil) })
		} else {
			w.put(w.upTo(3*time.Second), "not taken", func() { done(errors.New("simulated: no PUBACK")) })
		}
		return
	case w.chance(w.profile.lost / 2):
		w.put(w.upTo(3*time.Second), "taken, and not told", func() { done(errors.New("simulated: PUBACK lost")) })
	default:
		w.put(0, "taken", func() { done(nil) })
	}
	arrives(w.upTo(100 * time.Millisecond))
	if w.chance(w.profile.late) {
		w.later[len(w.later)-1].at = time.Now().Add(w.upTo(20 * time.Second))
	}
	if w.chance(w.profile.twice) {
		arrives(w.upTo(5 * time.Second))
	}
}

// endpoint is a direct device, or an IPC with its meters.
type endpoint struct {
	world *world
	id    command.DeviceID

	gateway     *gateway // nil: not connected
	incarnation int      // of the gateway
	epoch       int64

	memory map[command.Key]*answer
	tasks  []*answer
	outbox []*uplink // waits for its PUBACK, in order
	sent   int
}

// answer is what an endpoint has made of an operation.
type answer struct {
	key       command.Key
	attempt   int
	due       time.Time
	expires   time.Time
	executed  bool
	done      bool
	payload   string
	readings  []meterread.Reading
	succeeded bool
}

// uplink is a message of an endpoint, as it remembers it and as those who check do.
type uplink struct {
	from     *endpoint
	number   int
	kind     command.UplinkKind
	payload  string
	about    *answer // of a result
	final    bool
	readings []meterread.Reading
	poison   bool

	acked    bool
	appended []time.Time // by the record's clock, as often as it was
	flushed  bool        // some copy of it was in a log that was flushed before it was stored
}

func (w *world) settle() {
	for i := range 2 {
		w.gateways = append(w.gateways, &gateway{world: w, id: fmt.Sprint("gw", i+1), incarnation: 1, up: true})
	}
	w.beat()
	put := func(id string, kind fleet.Kind, speaker string) {
		w.ledger.PutDevice(fleet.Device{ID: command.DeviceID(id), Tenant: acme, Kind: kind, EndpointID: command.DeviceID(speaker), Enabled: true})
		if kind != fleet.Meter {
			e := &endpoint{world: w, id: command.DeviceID(id), memory: map[command.Key]*answer{}}
			w.points = append(w.points, e)
			if w.draw.IntN(5) > 0 {
				e.connect(w.gateways[w.draw.IntN(2)])
			}
		}
	}
	put("d1", fleet.Direct, "d1")
	put("ipc1", fleet.IPC, "ipc1")
	put("ipc2", fleet.IPC, "ipc2")
	meters := 3
	if w.profile.wide {
		meters = 70
	}
	for i := range meters {
		put(fmt.Sprintf("m%02d", i+1), fleet.Meter, "ipc1")
	}
	put("n01", fleet.Meter, "ipc2")
}

func (w *world) point(id command.DeviceID) *endpoint {
	return w.points[slices.IndexFunc(w.points, func(e *endpoint) bool { return e.id == id })]
}

func (e *endpoint) online() bool {
	return e.gateway != nil && e.gateway.up && e.gateway.incarnation == e.incarnation
}

func (e *endpoint) session() command.Session {
	return command.Session{Endpoint: e.id, Gateway: e.gateway.id, Incarnation: fmt.Sprint(e.incarnation), Epoch: e.epoch}
}

// connect opens a newer session. What the older one's gateway has to say of its end may come much later.
func (e *endpoint) connect(g *gateway) {
	if !g.up {
		return
	}
	if e.online() {
		e.leave(e.world.upTo(3 * time.Second))
	}
	e.epoch++
	e.gateway, e.incarnation = g, g.incarnation
	e.world.trace.add(string(e.id), "connects to", g.name())
	if !e.world.chance(e.world.profile.shed) {
		e.world.presence[e.id] = e.session()
	}
	e.hint(command.UplinkConnected, e.epoch, g.name(), "")
}

func (e *endpoint) disconnect() {
	e.world.trace.add(string(e.id), "disconnects")
	if e.world.presence[e.id].Epoch == e.epoch {
		delete(e.world.presence, e.id)
	}
	e.leave(0)
}

// leave ends the session.
func (e *endpoint) leave(d time.Duration) {
	epoch, name := e.epoch, e.gateway.name()
	e.gateway = nil
	e.world.put(d, "end of a session of "+string(e.id), func() { e.hint(command.UplinkDisconnected, epoch, name, "") })
}

// hint is what a gateway saw; it may be shed.
func (e *endpoint) hint(kind command.UplinkKind, epoch int64, gateway, payload string) {
	if e.world.chance(e.world.profile.shed) || e.world.away(e.world.logAway) {
		return
	}
	_ = e.world.log.Append(context.Background(), []command.Uplink{{
		Partition: fleet.Partition(e.id, partitions), Endpoint: e.id, Epoch: epoch, Gateway: gateway, Kind: kind, Payload: []byte(payload),
	}})
}

// receive is a message's arrival at the gateway's end of the link.
func (e *endpoint) receive(g *gateway, m command.Message) {
	w := e.world
	if e.gateway != g || !e.online() {
		if g.up {
			e.hint(command.UplinkUndeliverable, 0, g.name(), m.MessageID)
		}
		return
	}
	w.check.received(e, m)
	if w.chance(50) {
		w.put(w.upTo(200*time.Millisecond), "PUBACK of "+string(e.id), func() {
			e.hint(command.UplinkDelivered, e.epoch, g.name(), m.MessageID)
		})
	} else {
		e.hint(command.UplinkDelivered, e.epoch, g.name(), m.MessageID)
	}
	for _, t := range m.Targets {
		e.hears(m, t)
	}
}

// hears takes one operation in: an endpoint answers a repeat from memory instead of acting again.
func (e *endpoint) hears(m command.Message, t command.Target) {
	w := e.world
	k := command.Key{CommandID: m.CommandID, DeviceID: t.DeviceID}
	if a := e.memory[k]; a != nil {
		if a.done {
			e.answers(a)
		}
		return
	}
	a := &answer{key: k, attempt: m.Attempt, due: time.Now().Add(w.upTo(1500 * time.Millisecond)), expires: m.ExpiresAt}
	if w.chance(w.profile.silent) { // it forgets, or its bus is stuck
		return
	}
	if left := a.expires.Sub(w.now()); w.chance(8) && left > 0 { // at the last moment
		a.due = time.Now().Add(left - w.upTo(60*time.Millisecond))
	}
	e.memory[k] = a
	e.tasks = append(e.tasks, a)
	if w.draw.IntN(2) == 0 {
		e.says(command.UplinkAck, fmt.Sprintf(`"command_id":"%s","device_ids":["%s"],"status":"accepted"`, k.CommandID, k.DeviceID))
	}
}

// says puts a message into the outbox.
func (e *endpoint) says(kind command.UplinkKind, body string) *uplink {
	e.sent++
	u := &uplink{from: e, number: e.sent, kind: kind}
	u.payload = fmt.Sprintf(`{"v":1,"message_id":"%s-%d",%s}`, e.id, e.sent, body)
	e.outbox = append(e.outbox, u)
	e.world.check.says(u)
	return u
}

// reads is a reading that nobody else has made.
func (e *endpoint) reads(d command.DeviceID, asked command.ID) (meterread.Reading, string) {
	e.sent++
	r := meterread.Reading{
		DeviceID: d, Item: "1-0:1.8.0", Value: fmt.Sprint(e.sent), Unit: "kWh", CommandID: asked,
		ReadAt: e.world.began.UTC().Add(time.Duration(e.sent)*time.Second + time.Duration(len(e.id))*time.Millisecond + time.Duration(e.id[len(e.id)-1])*time.Microsecond),
	}
	return r, fmt.Sprintf(`"item":"%s","value":"%s","unit":"kWh","read_at":"%s"`, r.Item, r.Value, r.ReadAt.Format(time.RFC3339Nano))
}

// act does one thing that is due; false when there is none.
func (e *endpoint) act() bool {
	w := e.world
	if i := slices.IndexFunc(e.tasks, func(a *answer) bool { return !a.due.After(time.Now()) }); i >= 0 {
		a := e.tasks[i]
		e.tasks = slices.Delete(e.tasks, i, i+1)
		e.executes(a)
		return true
	}
	if e.online() && len(e.outbox) > 0 {
		e.transmit()
		return true
	}
	if w.chance(w.profile.poison) {
		e.says(command.UplinkResult, `"results":[`).poison = true
		return true
	}
	if w.chance(12) {
		d := e.anyDevice()
		r, text := e.reads(d, "")
		e.says(command.UplinkReadings, fmt.Sprintf(`"readings":[{"device_id":"%s",%s}]`, d, text)).readings = []meterread.Reading{r}
		return true
	}
	return false
}

// anyDevice is one that the endpoint spoke for from the beginning, whoever does now.
func (e *endpoint) anyDevice() command.DeviceID {
	switch e.id {
	case "ipc1":
		return "m02" // never moves
	case "ipc2":
		return "n01"
	}
	return e.id
}

func (e *endpoint) executes(a *answer) {
	w := e.world
	name := string(e.id) + " " + string(a.key.DeviceID)
	result := `"command_id":"` + string(a.key.CommandID) + `","device_id":"` + string(a.key.DeviceID) + `","attempt":` + fmt.Sprint(a.attempt)
	a.done = true
	if !w.now().Before(a.expires) {
		w.trace.add(name, "is too late")
		a.payload = result + `,"status":"error","final":true,"code":"EXPIRED_AT_ENDPOINT"`
		e.answers(a)
		return
	}
	a.executed = true
	w.check.executes(e, a)
	w.trace.add(name, "executes")
	if w.draw.IntN(8) == 0 {
		a.payload = result + `,"status":"error","final":true,"code":"BUS_TIMEOUT"`
		e.answers(a)
		return
	}
	a.succeeded = true
	if w.draw.IntN(6) == 0 { // in two parts
		first, firstText := e.reads(a.key.DeviceID, a.key.CommandID)
		u := e.says(command.UplinkResult, `"results":[{`+result+`,"status":"ok","final":false,"readings":[{`+firstText+`}]}]`)
		u.about, u.readings = a, []meterread.Reading{first}
	}
	r, text := e.reads(a.key.DeviceID, a.key.CommandID)
	a.readings = []meterread.Reading{r}
	a.payload = result + `,"status":"ok","final":true,"readings":[{` + text + `}]`
	e.answers(a)
}

func (e *endpoint) answers(a *answer) {
	u := e.says(command.UplinkResult, `"results":[{`+a.payload+`}]`)
	u.about, u.final, u.readings = a, true, a.readings
}

// transmit sends the oldest message that has no PUBACK. The gateway appends it, and then the PUBACK may still be lost.
func (e *endpoint) transmit() {
	w := e.world
	u := e.outbox[0]
	payload := u.payload
	if u.poison {
		payload = strings.TrimSuffix(payload, "}")
	}
	if w.chance(w.profile.unacked/2) || w.away(w.logAway) {
		w.trace.add(string(e.id), "is not heard")
		return
	}
	_ = w.log.Append(context.Background(), []command.Uplink{{
		Partition: fleet.Partition(e.id, partitions), Endpoint: e.id, Epoch: e.epoch, Gateway: e.gateway.name(), Kind: u.kind, Payload: []byte(payload),
	}})
	u.appended = append(u.appended, w.now())
	if w.chance(w.profile.unacked) {
		w.trace.add(string(e.id), "has no PUBACK")
		return
	}
	u.acked = true
	e.outbox = e.outbox[1:]
	w.trace.add(string(e.id), "sent", string(u.kind))
}
