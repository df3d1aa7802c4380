package checker

import (
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"meterline/command"
	"meterline/testkit/history"
)

// The rules. Numbers in violations are these.
//
//	 1  every acknowledged uplink is in the record, once
//	 2  nothing is there that was not sent
//	 3  counts and sums over readings equal the model's
//	 4  every accepted command exists, once per idempotency key
//	 5  every operation has one end, versions 1..n without a hole, and no poll showed an end and then another
//	 6  per device and priority, first sends are in the order of the commands
//	 7  succeeded: the device did it; never_sent: it never received it
//	 8  nothing is done after its deadline, nor sent with less than 2 s left
//	 9  what the live state holds at rest is what the record says
//	10  no tenant sees anything of another's
//	11  what was handed in is stored, a dead letter, a security event, or still at the device; /metrics agrees
//	12  the newest session of an endpoint ends the one before it, within 2 s

// judge compares a model with a record.
type judge struct {
	*Report
	model  *model
	record *record
	grace  time.Duration
	stored map[readingKey]bool // true: late
	newest map[string]map[string]readingKey
	sums   map[string]*sumOf
}

type sumOf struct {
	n     int
	total *big.Rat
}

// judge fills in the report. It changes neither model nor record.
func (r *Report) judge(ctx context.Context, m *model, rec *record, grace time.Duration) error {
	j := &judge{Report: r, model: m, record: rec, grace: grace, stored: make(map[readingKey]bool, len(m.readings)),
		newest: map[string]map[string]readingKey{}, sums: map[string]*sumOf{}}
	for row, err := range rec.readings(ctx) {
		if err != nil {
			return err
		}
		j.reading(row)
	}
	j.uplinks()
	j.aggregates()
	j.posts()
	j.operations()
	j.order()
	j.live()
	j.tenants()
	j.letters()
	j.twins()
	j.summary()
	return nil
}

// reading judges a stored reading: rules 1, 2 and 10.
func (j *judge) reading(r readingRow) {
	j.Stored++
	if r.late {
		j.LateReadings++
	}
	if _, before := j.stored[r.readingKey]; before {
		j.Twice++
		j.violate(1, "stored twice", r.String(), fmt.Sprintf("again as revision %d", r.revision))
		return
	}
	j.stored[r.readingKey] = r.late
	j.add(r)
	was := j.model.readings[r.readingKey]
	if was == nil {
		j.violate(2, "not sent", r.String(), "a reading that nobody handed in, or not with this value")
		return
	}
	if was.unit != r.unit || was.command != r.command {
		j.violate(2, "changed", r.String(), fmt.Sprintf("sent with unit %q for command %q, stored with %q for %q", was.unit, was.command,
			r.unit, r.command), was.by.lines()...)
	}
}

func (j *judge) add(r readingRow) {
	s := j.sums[r.device]
	if s == nil {
		s = &sumOf{total: new(big.Rat)}
		j.sums[r.device] = s
	}
	s.n++
	if v, ok := new(big.Rat).SetString(r.value); ok {
		s.total.Add(s.total, v)
	}
	of := j.newest[r.device]
	if of == nil {
		of = map[string]readingKey{}
		j.newest[r.device] = of
	}
	if had, some := of[r.item]; !some || had.at <= r.at { // in order of revisions
		of[r.item] = r.readingKey
	}
}

// lose counts what was acknowledged and is not there.
func (j *judge) lose(u *uplink, what string) {
	if j.model.flushedAfter(u.ackT) {
		j.FlushLosses++
		return
	}
	j.Lost++
	j.violate(1, "lost", u.id+" of "+u.endpoint, what, u.lines()...)
}

// uplinks is rule 1, and the part of rule 11 that says where the rest is.
func (j *judge) uplinks() {
	events := map[eventKey]int{}
	for _, e := range j.record.events {
		events[e.eventKey]++
	}
	for _, u := range j.model.uplinks {
		j.Uplinks++
		if u.acked {
			j.AckedUplinks++
		}
		if u.event != nil && u.acked && events[*u.event] == 0 {
			j.lose(u, "the event "+u.event.kind+" is not stored")
		}
		if u.event != nil && events[*u.event] > 1 {
			j.Twice++
			j.violate(1, "stored twice", u.id, "the event "+u.event.kind, u.lines()...)
		}
	}
	for k, s := range j.model.readings {
		j.Readings++
		late, there := j.stored[k]
		switch {
		case s.by.acked:
			j.AckedReadings++
			if !there {
				j.lose(s.by, "not stored: "+k.String())
			}
		case !there:
			j.AtDevice++
		}
		if there && s.by.intent == history.AfterEnd && !late {
			j.violate(5, "not late", k.String(), "handed in after the end of its operation, and not marked late", s.by.lines()...)
		}
	}
	sent := map[eventKey]bool{}
	for _, u := range j.model.uplinks {
		if u.event != nil {
			sent[*u.event] = true
		}
	}
	for _, e := range j.record.events {
		if e.kind != command.EventSecurity && !sent[e.eventKey] {
			j.violate(2, "not sent", e.endpoint+" "+e.kind, "an event that nobody reported")
		}
	}
}

// aggregates is rule 3: the database's own sums, against what its rows were one by one.
func (j *judge) aggregates() {
	devices := map[string]bool{}
	for d := range j.sums {
		devices[d] = true
	}
	for d := range j.record.sums {
		devices[d] = true
	}
	for d := range devices {
		said, ours := j.record.sums[d], j.sums[d]
		if ours == nil {
			ours = &sumOf{total: new(big.Rat)}
		}
		total, ok := new(big.Rat).SetString(said.total)
		if !ok || said.n != ours.n || total.Cmp(ours.total) != 0 {
			j.violate(3, "sums", d, fmt.Sprintf("SQL adds up %d readings to %s, one by one they are %d and %s", said.n, said.total, ours.n,
				ours.total.FloatString(6)))
		}
	}
}

// posts is rule 4.
func (j *judge) posts() {
	commands := map[string]commandRow{}
	for _, c := range j.record.commands {
		commands[c.id] = c
	}
	keyed := map[string]bool{}
	for _, k := range j.record.keys {
		keyed[k.command] = true
		p := j.model.keys[keyName(k.tenant, k.key)]
		switch {
		case p == nil:
			j.violate(2, "not sent", k.key, "an idempotency key that nobody used")
		case p.id != "" && p.id != k.command:
			j.violate(4, "key", k.key, "stands for "+k.command+", and the answer named "+p.id, p.lines...)
		}
	}
	for _, p := range j.model.keys {
		for _, wrong := range p.wrong {
			j.violate(4, "key", p.key, wrong, p.lines...)
		}
		if p.id == "" {
			continue
		}
		c, there := commands[p.id]
		switch {
		case !there:
			j.violate(4, "accepted and not there", p.id, "of key "+p.key, p.line)
		case c.tenant != p.tenant:
			j.violate(10, "tenant", p.id, "asked for by "+p.tenant+", stored of "+c.tenant, p.line)
		}
	}
	for _, c := range j.record.commands {
		j.Commands++
		if !keyed[c.id] && j.model.commands[c.id] == nil {
			j.violate(4, "made twice", c.id, "a command that no idempotency key stands for")
		}
	}
}

// operations is rule 5, 7 and 8, and what rule 2 says of ends.
func (j *judge) operations() {
	counts := map[string]map[string]int{}
	deadlines := map[opKey]time.Time{}
	shownExpired := map[string]bool{}
	for _, c := range j.record.commands {
		counts[c.id] = map[string]int{}
		shownExpired[c.id] = c.shownExpired
	}
	for i := range j.record.operations {
		o := &j.record.operations[i]
		j.Operations++
		deadlines[o.opKey] = o.expires
		if of := counts[o.command]; of != nil {
			of[o.state]++
		} else {
			j.violate(5, "no command", o.String(), "an operation of a command that is not there")
		}
		j.moves(o)
		j.end(o, shownExpired[o.command])
		j.device(o)
		if s := j.model.seen[o.opKey]; s != nil {
			j.AskedAgain += s.asksAgain
		}
	}
	for _, c := range j.record.commands {
		j.counts(c, counts[c.id])
	}
	for _, e := range j.model.executions {
		if d, known := deadlines[e.opKey]; known && e.at.After(d.Add(time.Second)) {
			j.violate(8, "done after the deadline", e.opKey.String(), e.at.Sub(d).String()+" after it", e.line)
		}
	}
}

const movesMost = 64 // more are not kept

// moves: the states in their order, each a legal step, each with a version of its own.
func (j *judge) moves(o *operationRow) {
	if len(o.moves) == 0 || o.moves[0].State != string(command.Queued) {
		j.violate(5, "moves", o.String(), "do not begin as queued")
		return
	}
	ends := 0
	for i, m := range o.moves {
		if terminal(m.State) {
			ends++
		}
		if i > 0 && len(o.moves) < movesMost && !command.State(o.moves[i-1].State).CanBecome(command.State(m.State)) {
			j.violate(5, "moves", o.String(), o.moves[i-1].State+" became "+m.State)
		}
		if m.State == string(command.Sent) && m.At.After(o.expires.Add(-2*time.Second)) {
			j.violate(8, "sent too late", o.String(), fmt.Sprintf("%s before its deadline", o.expires.Sub(m.At)))
		}
	}
	if ends > 1 {
		j.TwoEnds++
	}
	if last := o.moves[len(o.moves)-1].State; last != o.state {
		j.violate(5, "moves", o.String(), "the last is "+last+", the state "+o.state)
	}
	want := int64(len(o.moves))
	if o.late {
		want++
	}
	if len(o.moves) < movesMost && o.version != want {
		j.violate(5, "versions", o.String(), fmt.Sprintf("version %d after %d steps", o.version, want))
	}
}

// end: there is one, it is the one that was shown, and somebody gave cause for it.
func (j *judge) end(o *operationRow, shownExpired bool) {
	if o.open || !terminal(o.state) {
		j.Endless++
		j.violate(5, "without end", o.String(), fmt.Sprintf("%s, %s after its deadline", o.state, j.record.now.Sub(o.expires)))
		return
	}
	if e := j.model.endings[o.opKey]; e != nil {
		switch {
		case e.other != "":
			j.TwoEnds++
			j.violate(5, "two ends", o.String(), "shown as "+e.state+" and then as "+e.other, e.line, e.at)
		case e.state != o.state:
			j.TwoEnds++
			j.violate(5, "two ends", o.String(), "shown as "+e.state+", stored as "+o.state, e.line)
		}
	}
	a := j.model.answers[o.opKey]
	switch {
	case o.state == "succeeded" && !o.fromStock && (a == nil || a.ok == nil):
		j.violate(2, "not sent", o.String(), "succeeded without an answer that says so")
	case o.state == "failed" && (a == nil || a.codes[o.code] == nil):
		j.violate(2, "not sent", o.String(), "failed with "+o.code+", which no answer says")
	case o.state == "cancelled" && j.model.cancels[o.command] == "":
		j.violate(2, "not sent", o.String(), "cancelled, and nobody asked for it")
	case o.state == "expired" && a != nil && a.acked != nil && a.ackedAt.Before(o.expires) && !shownExpired && !j.model.flushedAfter(a.acked.ackT):
		j.violate(5, "answered and expired", o.String(), "its answer was acknowledged "+o.expires.Sub(a.ackedAt).String()+" before the deadline",
			a.acked.lines()...)
	}
	if a != nil && a.late != nil && !o.late && !j.model.flushedAfter(a.late.ackT) {
		j.violate(5, "late answer", o.String(), "came after the end and is not noted", a.late.lines()...)
	}
}

// device is rule 7.
func (j *judge) device(o *operationRow) {
	s := j.model.seen[o.opKey]
	if o.state == "succeeded" && !o.fromStock && (s == nil || s.executed == "") {
		j.violate(7, "never done", o.String(), "succeeded, and the device never did it")
	}
	delivered := slices.ContainsFunc(o.moves, func(m move) bool { return m.State == string(command.Delivered) })
	if delivered && (s == nil || !s.taken) {
		j.violate(7, "never taken", o.String(), "delivered, and its endpoint did not acknowledge it")
	}
	if o.delivery == string(command.NeverSent) && s != nil && s.received != "" {
		j.violate(7, "received", o.String(), "never_sent, and its endpoint received it", s.received)
	}
}

// counts: what a command says of its operations is what they say.
func (j *judge) counts(c commandRow, of map[string]int) {
	total := 0
	for state, n := range of {
		total += n
		if state != string(command.Queued) && c.counts[state] != n {
			j.violate(5, "counts", c.id, fmt.Sprintf("%d %s by its own account, %d by its operations'", c.counts[state], state, n))
		}
	}
	for state, n := range c.counts {
		if n != 0 && of[state] == 0 {
			j.violate(5, "counts", c.id, fmt.Sprintf("%d %s by its own account, 0 by its operations'", n, state))
		}
	}
	if total != c.total {
		j.violate(5, "counts", c.id, fmt.Sprintf("%d operations of %d", total, c.total))
	}
	if c.running || !c.finished {
		j.violate(5, "command without end", c.id, "still running")
	}
	if was := j.model.polls[c.id]; was != nil && was.status != statusOf(of) {
		j.violate(5, "two ends", c.id, "shown as "+was.status+", stored as "+statusOf(of), was.line)
	}
}

// statusOf is what operations add up to.
func statusOf(of map[string]int) string {
	var c command.Counts
	for state, n := range of {
		*c.Of(command.State(state)) += n
		c.Total += n
	}
	return string(c.Status())
}

// order is rule 6. Which of two commands is the older one is known only where one was accepted before the other was asked
// for.
func (j *judge) order() {
	type queue struct {
		device   string
		priority int
	}
	type first struct {
		o  *operationRow
		at time.Time
		by *asked
	}
	queues := map[queue][]first{}
	for i := range j.record.operations {
		o := &j.record.operations[i]
		n := slices.IndexFunc(o.moves, func(m move) bool { return m.State == string(command.Sent) })
		by := j.model.commands[o.command]
		if n >= 0 && by != nil {
			q := queue{o.device, o.priority}
			queues[q] = append(queues[q], first{o, o.moves[n].At, by})
		}
	}
	for _, firsts := range queues {
		slices.SortFunc(firsts, func(a, b first) int { return a.at.Compare(b.at) })
		var youngest first // of those sent so far
		for _, f := range firsts {
			if youngest.o != nil && f.by.okT < youngest.by.invokeT && f.at.After(youngest.at) {
				j.violate(6, "order", f.o.String(), "first sent after "+youngest.o.command+", which was asked for later", f.by.line, youngest.by.invoked)
			}
			if youngest.o == nil || f.by.invokeT > youngest.by.invokeT {
				youngest = f
			}
		}
	}
}

// live is rule 9.
func (j *judge) live() {
	states := map[string]map[string]*operationRow{}
	for i := range j.record.operations {
		o := &j.record.operations[i]
		if states[o.command] == nil {
			states[o.command] = map[string]*operationRow{}
		}
		states[o.command][o.device] = o
	}
	for _, c := range j.record.commands {
		h, held := j.record.hashes[c.id]
		if !held {
			continue
		}
		if h.version != c.version || h.counts["total"] != c.total {
			j.violate(9, "live state", c.id, fmt.Sprintf("version %d of %d operations, the record has %d of %d", h.version, h.counts["total"], c.version, c.total))
		}
		for state, n := range c.counts {
			if h.counts[state] != n {
				j.violate(9, "live state", c.id, fmt.Sprintf("%d %s, the record has %d", h.counts[state], state, n))
			}
		}
		for device, o := range states[c.id] {
			if has := h.states[device]; has.State != o.state || has.Version != o.version {
				j.violate(9, "live state", o.String(), fmt.Sprintf("%s, version %d; the record has %s, %d", has.State, has.Version, o.state, o.version))
			}
		}
		if len(h.states) != len(states[c.id]) {
			j.violate(9, "live state", c.id, fmt.Sprintf("%d operations, the record has %d", len(h.states), len(states[c.id])))
		}
	}
	for device, items := range j.record.latest {
		for item, value := range items {
			if k, some := j.newest[device][item]; some && k.value != value {
				j.violate(9, "newest reading", device+" "+item, value+", the record has "+k.value)
			}
		}
		if len(items) != len(j.newest[device]) {
			j.violate(9, "newest reading", device, fmt.Sprintf("%d items, the record has %d", len(items), len(j.newest[device])))
		}
	}
}

// tenants is rule 10.
func (j *judge) tenants() {
	for _, e := range j.model.calls {
		for _, leak := range e.Call.Leaks {
			j.violate(10, "leak", e.Actor, "an answer holds "+leak, e.Line)
		}
		if e.Kind == history.Probe && e.ID == "foreign" && e.Call.Status > 0 && e.Call.Status != 404 && e.Call.Status != 429 && e.Call.Status < 500 {
			j.violate(10, "leak", e.Actor, fmt.Sprintf("%s answered %d", e.Call.Path, e.Call.Status), e.Line)
		}
	}
	for _, s := range j.record.strays {
		j.violate(10, "tenant", s, "is stored under another tenant than what it is about")
	}
}

// letters is rule 11, for what is no good.
func (j *judge) letters() {
	j.DeadLetters = len(j.record.letters)
	byEndpoint := map[string][]letterRow{}
	unexplained := map[string]letterRow{}
	buried := map[opKey]int{}
	for _, l := range j.record.letters {
		if l.source == command.LetterOperation {
			buried[opKey{l.command, l.device}]++
			continue
		}
		byEndpoint[l.endpoint] = append(byEndpoint[l.endpoint], l)
		unexplained[l.id] = l
	}
	wanted, foreign := map[eventKey]int{}, map[eventKey]int{}
	for _, u := range j.model.uplinks {
		switch u.intent {
		case history.Poison, history.UnknownCommand:
			found := false
			for _, l := range byEndpoint[u.endpoint] {
				if strings.Contains(string(l.payload), u.id) || u.intent == history.UnknownCommand && l.command == u.about[0].command {
					delete(unexplained, l.id)
					found = true
				}
			}
			if u.acked && !found {
				j.lose(u, "no dead letter of this "+string(u.intent))
			}
		case history.Foreign:
			k := eventKey{endpoint: u.endpoint, device: u.devices[0], kind: command.EventSecurity}
			foreign[k]++
			if u.acked && !j.model.flushedAfter(u.ackT) {
				wanted[k]++
			}
		}
	}
	for _, l := range unexplained {
		j.violate(11, "dead letter", l.id, "nobody sent what it holds: "+l.cause+" of "+l.endpoint)
	}
	j.security(wanted, foreign)
	for i := range j.record.operations {
		o := &j.record.operations[i]
		if n := buried[o.opKey]; (o.state == "dead") != (n == 1) || n > 1 {
			j.violate(11, "dead letter", o.String(), fmt.Sprintf("%d dead letters of an operation that is %s", n, o.state))
		}
	}
}

// makesWay is how long an older session may last, with a second for the machine that everything runs on.
const makesWay = 3 * time.Second

// twins is rule 12, but for the time while something is broken.
func (j *judge) twins() {
	for _, t := range j.model.twins {
		over := t.at + makesWay
		if t.gone >= 0 && t.gone <= over || j.broken(t.at-makesWay, over) || t.gone < 0 && over > j.model.last {
			continue
		}
		lasted := "to the end"
		if t.gone >= 0 {
			lasted = (t.gone - t.at).String() + " longer"
		}
		j.violate(12, "old session", t.endpoint, "its older session lasted "+lasted, t.old, t.line)
	}
}

// broken says whether a fault was at work between two moments.
func (j *judge) broken(from, to time.Duration) bool {
	for _, f := range j.model.faults {
		until := to
		for _, h := range j.model.heals {
			if h.ID == f.ID {
				until = h.T
			}
		}
		if f.T <= to && until >= from {
			return true
		}
	}
	return false
}

func (j *judge) security(wanted, foreign map[eventKey]int) {
	there := map[eventKey]int{}
	for _, e := range j.record.events {
		if e.kind == command.EventSecurity && e.device != e.endpoint { // gateways tell of an endpoint itself
			there[eventKey{endpoint: e.endpoint, device: e.device, kind: e.kind}]++
		}
	}
	for k, n := range wanted {
		if there[k] < n {
			j.Lost += n - there[k]
			j.violate(11, "security event", k.endpoint, fmt.Sprintf("spoke for %s %d times and is noted %d times", k.device, n, there[k]))
		}
	}
	for k, n := range there {
		if n > foreign[k] {
			j.violate(11, "security event", k.endpoint, fmt.Sprintf("%d about %s, of %d", n, k.device, foreign[k]))
		}
	}
}
