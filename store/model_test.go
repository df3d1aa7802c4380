package store

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"meterline/command"
	"meterline/command/commandtest"
	"meterline/fleet"
	"meterline/meterread"
)

// The simulation of package command plays over a record in memory. It is worth what that is: whatever is asked of both, in
// whatever order, they give the same answers.
func TestTheRecordInMemoryIsNoLie(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		n := 0
		rapid.Check(t, func(rt *rapid.T) {
			n++
			newTwins(rt, t, db, n).run()
		})
	})
}

// twins are the two records, and what was done to both. Each walk has a tenant and devices of its own.
type twins struct {
	rt      *rapid.T
	f       fixture
	model   *commandtest.Ledger
	n       int
	tenant  fleet.Tenant
	ids     []command.ID
	devices []command.DeviceID
	real    command.Fence // the fences of the same partitions; epochs are each record's own
	twin    command.Fence
	offset  int64 // of the sequence numbers
	read    int
	seen    map[command.Key][2]*command.Operation // as they were seen last in each

	began  time.Time    // the step
	expire [2]time.Time // when what lasts for less than 2 s ends, in the one that is first and in the other; zero: there is none
}

func newTwins(rt *rapid.T, t *testing.T, db *DB, n int) *twins {
	w := &twins{rt: rt, f: fix(t, db), n: n, tenant: fleet.Tenant(fmt.Sprint("t", n)), seen: map[command.Key][2]*command.Operation{}}
	w.model = commandtest.NewLedger(db.partitions, func() time.Time {
		now, err := db.Now(w.f.ctx)
		check(t, err)
		return now
	})
	for _, name := range []string{"ipc1", "ipc2"} {
		w.device(fleet.Device{ID: w.id(name), Kind: fleet.IPC})
	}
	w.device(fleet.Device{ID: w.id("d"), Kind: fleet.Direct})
	for i := range 4 {
		w.device(fleet.Device{ID: w.id(fmt.Sprint("m", i)), Kind: fleet.Meter, EndpointID: w.id("ipc1")})
	}
	for found := true; found; { // what walks before have left
		_, found, _ = db.Expand(w.f.ctx, 100, command.Born)
	}
	check(t, db.Release(w.f.ctx, "w", partitionsOf(db.partitions)))
	w.hold()
	return w
}

func partitionsOf(n int) (list []int) {
	for i := range n {
		list = append(list, i)
	}
	return list
}

func (w *twins) id(name string) command.DeviceID {
	return command.DeviceID(fmt.Sprintf("w%d-%s", w.n, name))
}

func (w *twins) device(d fleet.Device) {
	d.Tenant, d.Enabled = w.tenant, true
	made, err := w.f.CreateDevice(w.f.ctx, by(d.Tenant), d, []byte("mac"))
	check(w.f, err)
	made.CreatedAt = time.Time{}
	w.model.PutDevice(made)
	if d.Kind != fleet.IPC {
		w.devices = append(w.devices, d.ID)
	}
}

func (w *twins) hold() {
	var err error
	w.real, _, err = w.f.Hold(w.f.ctx, "w", time.Minute, 0)
	check(w.f, err)
	w.twin, _, err = w.model.Hold(w.f.ctx, "w", time.Minute, 0)
	check(w.f, err)
	w.same("held", slices.Sorted(maps.Keys(w.real)), slices.Sorted(maps.Keys(w.twin)))
}

func (w *twins) run() {
	w.began = time.Now()
	w.create()
	steps := map[string]func(){
		"create": w.create, "move": w.move, "end": w.end, "cancel": w.cancel, "expand": w.expand, "shown": w.shown, "ready": w.ready,
		"look": w.look, "reshape": w.reshape, "lose": w.lose, "readings": w.readings,
	}
	names := slices.Sorted(maps.Keys(steps))
	names = append(names, "move", "move", "ready")
	for range rapid.IntRange(5, 25).Draw(w.rt, "steps") {
		w.began = time.Now()
		steps[rapid.SampledFrom(names).Draw(w.rt, "step")]()
		w.compare()
	}
	w.began = time.Now()
	w.recover()
}

func (w *twins) same(what string, real, model any) {
	w.f.Helper()
	if !reflect.DeepEqual(real, model) {
		const clocks = 10 * time.Millisecond // between this clock and the database's
		if !w.expire[0].IsZero() && w.began.Before(w.expire[1].Add(clocks)) && time.Now().After(w.expire[0].Add(-clocks)) {
			w.rt.Skip("a deadline lay between the one answer and the other")
		}
		w.rt.Fatalf("%s: the record has\n%+v\nthe one in memory\n%+v", what, real, model)
	}
}

// failed compares errors by what callers see of them.
func (w *twins) failed(what string, real, model error) bool {
	w.f.Helper()
	w.same(what, why(real), why(model))
	return real != nil
}

func why(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, new(*command.Invalid)):
		return err.Error()[strings.LastIndex(err.Error(), "/targets"):]
	case strings.Contains(err.Error(), command.ErrLost.Error()):
		return "lost"
	case strings.Contains(err.Error(), command.ErrNotFound.Error()):
		return "not found"
	}
	return err.Error()
}

func (w *twins) pick() command.ID { return rapid.SampledFrom(w.ids).Draw(w.rt, "command") }

// soon is less than what is needed to send. On a busy machine it is over before the walk is.
const soon = 1900 * time.Millisecond

func (w *twins) create() {
	if len(w.ids) >= 4 {
		return
	}
	c := want(w.tenant, command.Selector{All: true})
	c.ID = command.ID(newID())
	c.Priority = rapid.SampledFrom([]int{3, 5, 8}).Draw(w.rt, "priority")
	if rapid.Bool().Draw(w.rt, "some") {
		c.Selector = command.Selector{DeviceIDs: w.devices[:rapid.IntRange(1, len(w.devices)).Draw(w.rt, "devices")]}
	}
	if rapid.IntRange(0, 4).Draw(w.rt, "later") == 0 {
		c.NotBefore = time.Now().UTC().Truncate(time.Microsecond).Add(time.Hour)
	}
	ttl := rapid.SampledFrom([]time.Duration{time.Hour, time.Hour, time.Hour, -time.Minute, time.Second}).Draw(w.rt, "ttl")
	if ttl == time.Second { // less than what is needed to send
		ttl = soon
		if len(w.ids) > 0 { // one such is enough
			ttl = time.Hour
		}
	}
	first := rapid.IntRange(0, 6).Draw(w.rt, "first")
	real, err := w.f.Create(w.f.ctx, c, ttl, command.Idempotency{}, first, command.Born)
	twin, modelErr := w.model.Create(w.f.ctx, c, ttl, command.Idempotency{}, first, command.Born)
	if w.failed("create", err, modelErr) {
		return
	}
	if ttl == soon {
		w.expire = [2]time.Time{real.Command.ExpiresAt, twin.Command.ExpiresAt}
	}
	if len(w.ids) == 0 {
		w.offset = real.Command.Seq - twin.Command.Seq
	}
	w.ids = append(w.ids, c.ID)
	w.same("created", w.plain(real.Operations, w.offset), w.plain(twin.Operations, 0))
}

// operation is an operation without its times, which differ.
type operation struct {
	Key       command.Key
	Seq       int64
	Endpoint  command.DeviceID
	Partition int
	State     command.State
	Delivery  command.Delivery
	Attempts  int
	Waits     bool
	Error     string
	Readings  int
	Late      bool
	Moves     string
	Version   int64
	Changed   int64
	Shown     bool
}

func (w *twins) plain(ops []*command.Operation, offset int64) []operation {
	list := make([]operation, 0, len(ops))
	for _, o := range ops {
		p := operation{o.Key(), o.Seq - offset, o.EndpointID, o.Partition, o.State, o.Delivery, o.Attempts, time.Until(o.NextAt) > 10*time.Minute,
			"", len(o.Readings), !o.LateResultAt.IsZero(), "", o.Version, o.Changed, o.ShownExpired}
		if o.Error != nil {
			p.Error = o.Error.Code
		}
		for _, m := range o.Moves {
			p.Moves += fmt.Sprint(m.State, " ", m.Reason, m.Attempt, m.Endpoint, ";")
		}
		list = append(list, p)
	}
	return list
}

// summary is a command without its times.
type summary struct {
	Seq       int64
	Expanding bool
	Expanded  command.DeviceID
	Cancelled bool
	Version   int64
	Counts    command.Counts
	Errors    map[string]int
	Finished  bool
	Shown     bool
}

func summarize(c command.Command, offset int64) summary {
	if len(c.Errors) == 0 {
		c.Errors = nil
	}
	return summary{c.Seq - offset, c.Expanding, c.Expanded, !c.CancelledAt.IsZero(), c.Version, c.Counts, c.Errors, !c.Running(), c.ShownExpired}
}

// compare looks at all commands and operations of both.
func (w *twins) compare() {
	real, err := w.f.Commands(w.f.ctx, w.ids)
	check(w.f, err)
	twin, _ := w.model.Commands(w.f.ctx, w.ids)
	var need command.Need
	for _, id := range w.ids {
		w.same("command", summarize(real[id], w.offset), summarize(twin[id], 0))
		for _, d := range w.devices {
			need.Operations = append(need.Operations, command.Key{CommandID: id, DeviceID: d})
		}
	}
	w.same("operations", w.load(w.f.DB, need, w.offset), w.load(w.model, need, 0))
}

// load reads operations in order of their keys, and changes nothing.
func (w *twins) load(l command.Ledger, need command.Need, offset int64) []operation {
	var ops []*command.Operation
	_, err := l.Change(w.f.ctx, nil, need, func(x *command.Tx) error {
		ops = slices.Collect(maps.Values(x.Operations))
		return nil
	})
	check(w.f, err)
	sortOperations(ops)
	return w.plain(ops, offset)
}

// move takes some operations a random step on, in both.
func (w *twins) move() {
	var keys []command.Key
	var need, modelNeed command.Need
	for range rapid.IntRange(1, 4).Draw(w.rt, "operations") {
		k := command.Key{CommandID: w.pick(), DeviceID: rapid.SampledFrom(w.devices).Draw(w.rt, "device")}
		if slices.Contains(keys, k) {
			continue
		}
		keys = append(keys, k)
		if was, ok := w.seen[k]; ok && rapid.Bool().Draw(w.rt, "known") { // whatever has become of it meanwhile
			need.Known, modelNeed.Known = append(need.Known, was[0]), append(modelNeed.Known, was[1])
		} else {
			need.Operations, modelNeed.Operations = append(need.Operations, k), append(modelNeed.Operations, k)
		}
	}
	steps := rapid.SliceOfN(rapid.SampledFrom(command.States), len(keys), -1).Draw(w.rt, "to")
	later := rapid.Bool().Draw(w.rt, "later")
	decide := func(x *command.Tx) error {
		for i, k := range keys {
			switch o := x.Operations[k]; {
			case o == nil:
			case !o.State.Open():
				o.Late(x.Now)
			case steps[i] == command.Queued && later:
				if o.Requeue(x.Now, x.Now.Add(time.Hour), false, "later") == nil { // and its device has moved meanwhile
					o.EndpointID, o.Partition = w.id("ipc2"), w.f.partitionOf(w.id("ipc2"))
				}
			case steps[i] == command.Accepted && later: // a part of an answer
				o.Readings = append(o.Readings, meterread.Reading{DeviceID: o.DeviceID, Item: "1-0:1.8.0", Value: "1", ReadAt: x.Now})
			default:
				step(x, o, steps[i])
			}
		}
		return nil
	}
	real, err := w.f.Change(w.f.ctx, w.real, need, decide)
	twin, modelErr := w.model.Change(w.f.ctx, w.twin, modelNeed, decide)
	if !w.failed("move", err, modelErr) {
		w.changes(real, twin)
	}
}

func (w *twins) changes(real, twin command.Committed) {
	w.same("changes", len(real.Changes), len(twin.Changes))
	for i, c := range real.Changes {
		m := twin.Changes[i]
		w.same("change", []any{c.From, c.Bulk, summarize(c.Command, w.offset)}, []any{m.From, m.Bulk, summarize(m.Command, 0)})
		w.same("moved", w.plain(c.Operations, w.offset), w.plain(m.Operations, 0))
		for j, o := range c.Operations {
			w.seen[o.Key()] = [2]*command.Operation{o, m.Operations[j]}
		}
	}
}

func (w *twins) end() {
	ids, after := []command.ID{w.pick()}, rapid.SampledFrom(append([]command.DeviceID{""}, w.devices...)).Draw(w.rt, "after")
	as := rapid.SampledFrom([]command.State{command.Expired, command.Cancelled}).Draw(w.rt, "as")
	limit := rapid.IntRange(1, 4).Draw(w.rt, "limit")
	if other := w.pick(); other != ids[0] && rapid.Bool().Draw(w.rt, "together") {
		ids = append(ids, other)
	}
	real, twin := w.real, w.twin
	if rapid.Bool().Draw(w.rt, "unfenced") {
		real, twin = nil, nil
	}
	c, last, more, err := w.f.End(w.f.ctx, real, ids, as, "why", after, limit)
	m, mLast, mMore, mErr := w.model.End(w.f.ctx, twin, ids, as, "why", after, limit)
	if !w.failed("end", err, mErr) {
		w.same("ended", []any{last, more}, []any{mLast, mMore})
		w.changes(c, m)
	}
}

func (w *twins) cancel() {
	id := w.pick()
	w.failed("cancel", w.f.Cancel(w.f.ctx, by(w.tenant), id), w.model.Cancel(w.f.ctx, by(w.tenant), id))
}

func (w *twins) shown() {
	id := w.pick()
	w.failed("shown", w.f.Shown(w.f.ctx, []command.ID{id}), w.model.Shown(w.f.ctx, []command.ID{id}))
}

func (w *twins) expand() {
	limit := rapid.IntRange(1, 4).Draw(w.rt, "chunk")
	real, found, err := w.f.Expand(w.f.ctx, limit, command.Born)
	twin, modelFound, modelErr := w.model.Expand(w.f.ctx, limit, command.Born)
	if w.failed("expand", err, modelErr) {
		return
	}
	w.same("expanded", found, modelFound)
	if found {
		w.same("made", w.plain(real.Operations, w.offset), w.plain(twin.Operations, 0))
		w.same("command", summarize(real.Command, w.offset), summarize(twin.Command, 0))
	}
}

func (w *twins) ready() {
	var heads []command.Head
	for _, e := range []string{"ipc1", "ipc2", "d"} {
		h := command.Head{Endpoint: w.id(e), Partition: w.f.partitionOf(w.id(e)), Limit: rapid.IntRange(0, 4).Draw(w.rt, "limit"),
			MinPriority: rapid.SampledFrom([]int{0, 0, 8}).Draw(w.rt, "priority")}
		if rapid.Bool().Draw(w.rt, "busy") {
			h.Busy = w.devices[:2]
		}
		heads = append(heads, h)
	}
	real, err := w.f.Ready(w.f.ctx, heads)
	twin, modelErr := w.model.Ready(w.f.ctx, heads)
	w.failed("ready", err, modelErr)
	w.same("ready", keysOf(real), keysOf(twin))
	for endpoint, front := range real {
		w.same("heads", w.plain(front.Operations, w.offset), w.plain(twin[endpoint].Operations, 0))
		w.same("more", front.More, twin[endpoint].More)
		for i, o := range front.Operations {
			w.seen[o.Key()] = [2]*command.Operation{o, twin[endpoint].Operations[i]}
		}
	}
}

// look asks what workers look around for. Other walks left their commands in the real record.
func (w *twins) look() {
	arrivals := func(l command.Ledger, offset int64) (list []string) {
		as, err := l.Arrivals(w.f.ctx, offset, 100)
		check(w.f, err)
		for _, a := range as {
			if slices.Contains(w.ids, a.ID) {
				list = append(list, fmt.Sprint(a.ID, a.Seq-offset, a.Expanding))
			}
		}
		return list
	}
	w.same("arrivals", arrivals(w.f.DB, w.offset), arrivals(w.model, 0))
	due := func(l command.Ledger) (list []command.ID) {
		cs, err := l.Due(w.f.ctx, nil, 1_000_000)
		check(w.f, err)
		for _, c := range cs {
			if slices.Contains(w.ids, c.ID) {
				list = append(list, c.ID)
			}
		}
		slices.Sort(list)
		return list
	}
	w.same("due", due(w.f.DB), due(w.model))
	timed := func(l command.Ledger) (list []command.ID) {
		ids, err := l.Timed(w.f.ctx, time.Now(), time.Now().Add(2*time.Hour))
		check(w.f, err)
		for _, id := range ids {
			if slices.Contains(w.ids, id) {
				list = append(list, id)
			}
		}
		return list
	}
	w.same("timed", timed(w.f.DB), timed(w.model))
	id, after := w.pick(), w.devices[0]
	endpoints := func(l command.Ledger) []any {
		es, last, err := l.Endpoints(w.f.ctx, id, partitionsOf(w.f.partitions), after)
		check(w.f, err)
		slices.Sort(es)
		return []any{fmt.Sprint(es), last}
	}
	w.same("endpoints", endpoints(w.f.DB), endpoints(w.model))
	w.views(id)
}

func (w *twins) views(id command.ID) {
	show := func(b interface {
		command.Book
		command.Ledger
	}) []any {
		v, tenant, whole, err := b.Snapshot(w.f.ctx, id, 3)
		check(w.f, err)
		var states []string
		for _, o := range v.Operations {
			states = append(states, fmt.Sprint(o.DeviceID, o.State, o.Version))
		}
		un, err := b.Unsuccessful(w.f.ctx, w.tenant, id)
		check(w.f, err)
		open, err := b.OpenOperations(w.f.ctx, w.tenant)
		check(w.f, err)
		return []any{v.Status, v.Counts, v.Version, tenant, whole, states, fmt.Sprint(un), open}
	}
	w.same("view", show(w.f.DB), show(w.model))
}

// reshape moves, disables or enables a device.
func (w *twins) reshape() {
	d, ok := w.model.Device(w.id(fmt.Sprint("m", rapid.IntRange(0, 3).Draw(w.rt, "meter"))))
	if !ok {
		w.rt.Fatal("no such meter")
	}
	if rapid.Bool().Draw(w.rt, "moves") {
		d.EndpointID = w.id(rapid.SampledFrom([]string{"ipc1", "ipc2"}).Draw(w.rt, "to"))
	} else {
		d.Enabled = !d.Enabled
	}
	_, touched, err := w.f.UpdateDevice(w.f.ctx, by(d.Tenant), d)
	check(w.f, err)
	w.same("touched", fmt.Sprint(touched), fmt.Sprint(w.model.PutDevice(d)))
}

// lose lets another owner in: what is done with the old epochs is refused.
func (w *twins) lose() {
	old, oldTwin := w.real, w.twin
	all := partitionsOf(w.f.partitions)
	w.failed("release", w.f.Release(w.f.ctx, "w", all), w.model.Release(w.f.ctx, "w", all))
	w.hold()
	nothing := func(*command.Tx) error { return nil }
	_, err := w.f.Change(w.f.ctx, old, command.Need{}, nothing)
	_, modelErr := w.model.Change(w.f.ctx, oldTwin, command.Need{}, nothing)
	if !w.failed("old epochs", err, modelErr) {
		w.rt.Fatal("an old epoch is taken")
	}
}

// readings stores some, of which some are there already, and moves the position.
func (w *twins) readings() {
	var rs []meterread.Reading
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for range rapid.IntRange(1, 5).Draw(w.rt, "readings") {
		rs = append(rs, meterread.Reading{DeviceID: rapid.SampledFrom(w.devices).Draw(w.rt, "device"), Item: "1-0:1.8.0", Unit: "kWh",
			Value: rapid.SampledFrom([]string{"1", "2", "3"}).Draw(w.rt, "value"), ReadAt: at.Add(time.Duration(rapid.IntRange(0, 2).Draw(w.rt, "at")) * time.Hour),
			ReceivedAt: at, Quality: meterread.Valid})
	}
	w.read++
	to := []command.LogPosition{{Partition: 1, Generation: "g", Position: command.Position(fmt.Sprint(w.read))}}
	letter := command.DeadLetter{Tenant: w.tenant, Source: command.LetterUplink, Cause: "X", Key: fmt.Sprint(w.tenant, w.read/2), CreatedAt: at}
	decide := func(x *command.Tx) error {
		x.Readings, x.Positions, x.DeadLetters = slices.Clone(rs), to, []command.DeadLetter{letter}
		return nil
	}
	real, err := w.f.Change(w.f.ctx, w.real, command.Need{Devices: w.devices}, decide)
	twin, modelErr := w.model.Change(w.f.ctx, w.twin, command.Need{Devices: w.devices}, decide)
	if !w.failed("readings", err, modelErr) {
		w.same("new readings", readingsOf(real.Readings), readingsOf(twin.Readings))
	}
	list, err := w.f.DeadLetters(w.f.ctx, w.tenant, command.DeadLetterFilter{}, command.Page{Limit: 1000})
	check(w.f, err)
	w.same("dead letters", len(list.Items), len(w.model.StoredLetters()))
}

func readingsOf(rs []meterread.Reading) (list []string) {
	for _, r := range rs {
		list = append(list, fmt.Sprint(r.DeviceID, r.ReadAt.Hour(), r.Value, r.Quality))
	}
	return list
}

// recover asks what a new owner learns.
func (w *twins) recover() {
	learn := func(l command.Ledger, offset int64) []any {
		r, err := l.Recover(w.f.ctx, partitionsOf(w.f.partitions))
		check(w.f, err)
		var flying []*command.Operation
		for _, o := range r.InFlight {
			if o.Tenant == w.tenant {
				o.ShownExpired = false
				flying = append(flying, o)
			}
		}
		var endpoints, waiting []string
		for _, e := range r.Endpoints {
			if strings.HasPrefix(string(e), fmt.Sprintf("w%d-", w.n)) {
				endpoints = append(endpoints, string(e))
			}
		}
		for _, t := range r.Waiting {
			if strings.HasPrefix(string(t.Endpoint), fmt.Sprintf("w%d-", w.n)) {
				waiting = append(waiting, fmt.Sprint(t.Endpoint, time.Until(t.At) > 10*time.Minute))
			}
		}
		var commands []command.ID
		for _, id := range r.Commands {
			if slices.Contains(w.ids, id) {
				commands = append(commands, id)
			}
		}
		slices.Sort(endpoints)
		slices.Sort(waiting)
		slices.Sort(commands)
		position := command.LogPosition{}
		if w.read > 0 {
			position = r.Positions[1]
		}
		return []any{w.plain(flying, offset), endpoints, waiting, commands, position, len(r.Positions)}
	}
	w.same("recovered", learn(w.f.DB, w.offset), learn(w.model, 0))
}
