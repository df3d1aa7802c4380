package command_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// checker knows what was really said and done, and holds the record against it: at every write, at every poll and at the end.
// It has the rules in words of its own, not the product's.
type checker struct {
	world *world
	what  string // the first thing that was wrong

	issues    map[command.ID]bool // acknowledged to a user
	uplinks   []*uplink
	byPayload map[string]*uplink
	executed  map[command.Key]bool // by some endpoint
	had       map[command.Key]bool // reached some endpoint
	sent      map[command.Key]bool // claimed at least once
	newest    map[queue]int64      // the newest command that was first sent
	disabled  map[command.DeviceID]bool
	lossy     bool // the log was flushed
	since     time.Time
}

// queue is what is kept in order.
type queue struct {
	device   command.DeviceID
	priority int
}

// fuzzy is how far two clocks of the product may be apart.
const fuzzy = 250 * time.Millisecond

func newChecker(w *world) *checker {
	return &checker{
		world: w, issues: map[command.ID]bool{}, byPayload: map[string]*uplink{}, executed: map[command.Key]bool{}, had: map[command.Key]bool{},
		sent: map[command.Key]bool{}, newest: map[queue]int64{}, disabled: map[command.DeviceID]bool{},
	}
}

func (c *checker) failed() bool { return c.what != "" }

func (c *checker) fail(format string, args ...any) {
	if c.what == "" {
		c.what = fmt.Sprintf(format, args...)
		c.world.trace.add("WRONG:", c.what)
	}
}

func (c *checker) name(k command.Key) string {
	return c.world.alias(k.CommandID) + "/" + string(k.DeviceID)
}

func (c *checker) issued(id command.ID) { c.issues[id] = true }

func (c *checker) says(u *uplink) {
	c.uplinks = append(c.uplinks, u)
	c.byPayload[u.payload] = u
}

func (c *checker) executes(_ *endpoint, a *answer) { c.executed[a.key] = true }

func (c *checker) reshaped(d fleet.Device) { c.disabled[d.ID] = c.disabled[d.ID] || !d.Enabled }

func (c *checker) healed() { c.since = time.Now() }

// published looks at a message when it leaves a backend: what is on its way is written down before it leaves.
func (c *checker) published(endpoint command.DeviceID, m command.Message) {
	for _, t := range m.Targets {
		k := command.Key{CommandID: m.CommandID, DeviceID: t.DeviceID}
		o := c.world.ledger.Operation(k)
		c.world.trace.add("publish", c.name(k), "to", string(endpoint), fmt.Sprint("attempt ", m.Attempt))
		if o == nil || o.Delivery == command.NeverSent {
			c.fail("%s is published and never_sent", c.name(k))
		} else if !m.ExpiresAt.Equal(o.ExpiresAt) {
			c.fail("%s is published with another deadline", c.name(k))
		}
	}
}

func (c *checker) received(_ *endpoint, m command.Message) {
	for _, t := range m.Targets {
		c.had[command.Key{CommandID: m.CommandID, DeviceID: t.DeviceID}] = true
	}
}

// flushed notes what a flush of the log is about to lose.
func (c *checker) flushed() {
	c.lossy = true
	for n := range partitions {
		for _, u := range c.world.log.Unread(c.world.ledger.Position(n)) {
			if said := c.byPayload[whole(u.Payload)]; said != nil {
				said.flushed = true
			}
		}
	}
}

// whole is a payload as its sender knows it: poison was cut on the way.
func whole(payload []byte) string {
	if p := string(payload); p != "" && p[len(p)-1] == '[' {
		return p + "}"
	}
	return string(payload)
}

// steps are the steps that an operation may take, as docs/command-lifecycle.md has them.
var steps = map[command.State]string{
	command.Queued:    "sent delivered accepted succeeded failed expired cancelled dead",
	command.Sent:      "queued delivered accepted succeeded failed expired cancelled dead",
	command.Delivered: "queued accepted succeeded failed expired cancelled dead",
	command.Accepted:  "queued succeeded failed expired cancelled dead",
}

var deliveries = []command.Delivery{command.NeverSent, command.MaybeSent, command.Acked}

// wrote holds a write against the rules.
func (c *checker) wrote(was, is *command.Operation) {
	if was == nil {
		if is.Version < 1 || is.Attempts != 0 {
			c.fail("%s is born as version %d with %d attempts", c.name(is.Key()), is.Version, is.Attempts)
		}
		return
	}
	name := c.name(is.Key())
	if is.Version != was.Version {
		c.world.trace.add(name, "is", string(is.State), fmt.Sprint("attempts ", is.Attempts), is.Moves[len(is.Moves)-1].Reason)
	}
	c.versions(name, was, is)
	if _, open := steps[was.State]; !open && (was.State != is.State || was.Attempts != is.Attempts || was.Delivery != is.Delivery || was.Error != is.Error) {
		c.fail("%s had ended as %s and is changed to %s", name, was.State, is.State)
	}
	if slices.Index(deliveries, is.Delivery) < slices.Index(deliveries, was.Delivery) {
		c.fail("%s: delivery falls from %s to %s", name, was.Delivery, is.Delivery)
	}
	before := *was
	for _, m := range is.Moves[min(len(was.Moves), len(is.Moves)):] {
		c.moved(name, &before, is, m)
		before.State = m.State
	}
}

// versions: each move and each late result is one version, and so is a part of an answer, or the device's going elsewhere, that
// came without either.
func (c *checker) versions(name string, was, is *command.Operation) {
	want := int64(len(is.Moves) - len(was.Moves))
	if was.LateResultAt.IsZero() && !is.LateResultAt.IsZero() {
		want++
	}
	if want == 0 && (len(is.Readings) != len(was.Readings) || is.EndpointID != was.EndpointID) {
		want = 1
	}
	if is.Version-was.Version != want && len(is.Moves) < 60 {
		c.fail("%s: version %d after %d, but %d things happened", name, is.Version, was.Version, want)
	}
}

func (c *checker) moved(name string, was, is *command.Operation, m command.Move) {
	if !contains(steps[was.State], string(m.State)) {
		c.fail("%s goes from %s to %s", name, was.State, m.State)
	}
	switch m.State {
	case command.Sent:
		c.claimed(name, is, m)
	case command.Queued:
		c.requeued(name, was, is, m)
	case command.Succeeded, command.Failed:
		c.answered(name, is, m.State)
	case command.Expired:
		c.expired(name, was, is, m)
	case command.Cancelled:
		if c.world.ledger.Command(is.CommandID).CancelledAt.IsZero() && !c.disabled[is.DeviceID] {
			c.fail("%s is cancelled, and nobody has", name)
		}
	case command.Dead:
		c.silent(name, was, m)
		if is.Attempts != is.MaxAttempts {
			c.fail("%s is dead after %d of %d attempts", name, is.Attempts, is.MaxAttempts)
		}
	}
}

func contains(words, word string) bool {
	for len(words) >= len(word) {
		if words[:len(word)] == word && (len(words) == len(word) || words[len(word)] == ' ') {
			return true
		}
		words = words[1:]
	}
	return false
}

// claimed: with time left, in order, within the window, one at a time for a device, to who speaks for it.
func (c *checker) claimed(name string, o *command.Operation, m command.Move) {
	if left := o.ExpiresAt.Sub(m.At); left < 2*time.Second {
		c.fail("%s is sent with %s left", name, left)
	}
	if o.Attempts > o.MaxAttempts || o.Attempts < 1 {
		c.fail("%s: attempt %d of %d", name, o.Attempts, o.MaxAttempts)
	}
	if d, ok := c.world.ledger.Device(o.DeviceID); ok && d.EndpointID != o.EndpointID {
		c.fail("%s is sent to %s, but its device is of %s now", name, o.EndpointID, d.EndpointID)
	}
	c.inOrder(name, o)
	flying, window, reserve := 1, 64, 8
	if o.Device.Kind == fleet.Direct {
		window, reserve = 1, 1
	}
	for _, other := range c.world.ledger.Operations() {
		if other.Key() == o.Key() || !inFlight(other) || other.EndpointID != o.EndpointID || !other.ExpiresAt.After(m.At) { // over is over
			continue
		}
		flying++
		if other.DeviceID == o.DeviceID {
			c.fail("%s is sent while %s is in flight", name, c.name(other.Key()))
		}
	}
	if flying > window+reserve || flying > window && o.Priority < 8 {
		c.fail("%s is the %dth in flight at %s", name, flying, o.EndpointID)
	}
}

func inFlight(o *command.Operation) bool {
	return o.State == command.Sent || o.State == command.Delivered || o.State == command.Accepted
}

// inOrder: per device and priority commands are first sent in the order they were accepted.
func (c *checker) inOrder(name string, o *command.Operation) {
	if c.sent[o.Key()] {
		return
	}
	c.sent[o.Key()] = true
	if !c.world.ledger.Command(o.CommandID).NotBefore.IsZero() {
		return
	}
	q := queue{o.DeviceID, o.Priority}
	if c.newest[q] > o.Seq {
		c.fail("%s is sent for the first time after c%d", name, c.newest[q])
	}
	c.newest[q] = o.Seq
	for _, other := range c.world.ledger.Operations() {
		if other.DeviceID == o.DeviceID && other.EndpointID == o.EndpointID && other.State == command.Queued && other.Priority > o.Priority &&
			other.Key() != o.Key() && !other.NextAt.After(o.UpdatedAt.Add(-fuzzy)) && other.ExpiresAt.Sub(o.UpdatedAt) > 3*time.Second &&
			other.UpdatedAt.Before(o.UpdatedAt.Add(-30*time.Second)) && !c.growing(other) {
			c.fail("%s is sent while %s of a higher priority waits", name, c.name(other.Key()))
		}
	}
}

// growing says whether an older command of its priority, which it has to wait for, is being expanded.
func (c *checker) growing(o *command.Operation) bool {
	return slices.ContainsFunc(c.world.ledger.Issued(), func(id command.ID) bool {
		older := c.world.ledger.Command(id)
		return older.Expanding && older.Seq < o.Seq && older.Priority == o.Priority
	})
}

// requeued: only when the lease is over by the log, or the message has certainly gone astray.
func (c *checker) requeued(name string, was, is *command.Operation, m command.Move) {
	if m.Reason != "no answer" && was.State != command.Sent {
		c.fail("%s was %s and is taken back: %s", name, was.State, m.Reason)
	}
	switch m.Reason {
	case "no answer":
		c.silent(name, was, m)
		if is.Attempts != was.Attempts {
			c.fail("%s: an attempt without an answer is not counted", name)
		}
	case "endpoint gone":
		e := c.world.point(was.EndpointID)
		if e.online() && e.epoch == was.Epoch && e.gateway.name() == was.Gateway {
			c.fail("%s is taken back as if its session had ended", name)
		}
	}
}

// silent: nothing of the operation's endpoint about it lies in the log that came before the lease was over.
func (c *checker) silent(name string, was *command.Operation, m command.Move) {
	if m.At.Before(was.LeaseUntil.Add(-fuzzy)) {
		c.fail("%s is given up %s before its lease is over", name, was.LeaseUntil.Sub(m.At))
	}
	n := fleet.Partition(was.EndpointID, partitions)
	for _, u := range c.world.log.Unread(c.world.ledger.Position(n)) {
		said := c.byPayload[string(u.Payload)]
		if said == nil || said.about == nil || said.about.key != was.Key() || u.Endpoint != was.EndpointID {
			continue
		}
		if at := c.byRecord(u.AppendedAt); at.Before(was.LeaseUntil.Add(-fuzzy)) {
			c.fail("%s is asked for again, and its answer has waited in the log since %s before the lease was over", name, was.LeaseUntil.Sub(at))
		}
	}
}

func (c *checker) byRecord(logTime time.Time) time.Time {
	return logTime.Add(c.world.profile.recordAhead - c.world.profile.logAhead)
}

// answered: the device did it, and its answer was there before the deadline.
func (c *checker) answered(name string, o *command.Operation, as command.State) {
	for _, u := range c.uplinks {
		if u.about == nil || !u.final || u.about.key != o.Key() || len(u.appended) == 0 || u.about.succeeded != (as == command.Succeeded) {
			continue
		}
		if u.appended[0].Before(o.ExpiresAt.Add(fuzzy)) {
			return
		}
	}
	c.fail("%s is %s without such an answer before its deadline", name, as)
}

// expired: the deadline has passed, and no answer came before it.
func (c *checker) expired(name string, was, is *command.Operation, m command.Move) {
	if m.At.Before(is.ExpiresAt) {
		c.fail("%s expires before its deadline", name)
	}
	if c.world.ledger.Command(is.CommandID).ShownExpired {
		return
	}
	for _, u := range c.uplinks {
		if u.about == nil || !u.final || u.flushed || u.about.key != is.Key() || u.from.id != was.EndpointID || len(u.appended) == 0 {
			continue
		}
		if before := is.ExpiresAt.Sub(u.appended[0]); before > fuzzy {
			c.fail("%s expires, and its answer came %s before the deadline", name, before)
		}
	}
}

// shown: what has been shown as an end stays.
func (c *checker) shown(v command.View) {
	for _, o := range v.Operations {
		k := command.Key{CommandID: v.ID, DeviceID: o.DeviceID}
		before, ended := c.world.users.seen[k]
		if ended && before != o.State {
			c.fail("%s was shown as %s and is shown as %s", c.name(k), before, o.State)
		}
		if _, open := steps[o.State]; !open {
			c.world.users.seen[k] = o.State
		}
	}
}

// knows holds what a worker that is at work believes to be in flight against what is.
func (c *checker) knows(worker *command.Worker) {
	fence, flying := worker.Holds()
	if len(fence) == 0 {
		return
	}
	if _, err := c.world.ledger.Change(context.Background(), fence, command.Need{}, func(*command.Tx) error { return nil }); err != nil {
		return // it has lost something and does not know yet
	}
	for _, o := range c.world.ledger.Operations() {
		_, mine := fence[o.Partition]
		switch k := o.Key(); {
		case !mine || o.DeviceID == "m01": // what moves is heard of by others
		case inFlight(o) && !flying[k] && o.ExpiresAt.After(c.world.now()):
			c.fail("%s is %s, and its owner does not know", c.name(k), o.State)
		case flying[k] && (o.State == command.Succeeded || o.State == command.Failed):
			c.fail("%s is %s, and its owner takes it for in flight", c.name(k), o.State)
		}
	}
}

// deadlines looks, once all is mended, at what hangs.
func (c *checker) deadlines() {
	now, mended := c.world.now(), time.Since(c.since)
	if mended < 12*time.Second {
		return
	}
	for _, o := range c.world.ledger.Operations() {
		switch {
		case !o.State.Open():
		case now.Sub(o.ExpiresAt) > 4*time.Second:
			c.fail("%s is %s %s after its deadline", c.name(o.Key()), o.State, now.Sub(o.ExpiresAt))
		case now.After(o.ExpiresAt):
		case inFlight(o) && now.Sub(o.LeaseUntil) > 3*c.world.profile.runTimeout+15*time.Second && mended > 3*c.world.profile.runTimeout+15*time.Second:
			c.fail("%s is %s %s after its lease", c.name(o.Key()), o.State, now.Sub(o.LeaseUntil))
		case o.State == command.Queued && mended > 80*time.Second && now.Sub(o.NextAt) > 75*time.Second && o.ExpiresAt.Sub(now) > 3*time.Second && !c.busy(o):
			c.fail("%s is not sent, and its endpoint is there", c.name(o.Key()))
		}
	}
}

// busy says whether anything else is in flight where the operation waits.
func (c *checker) busy(o *command.Operation) bool {
	return slices.ContainsFunc(c.world.ledger.Operations(), func(other *command.Operation) bool {
		return inFlight(other) && other.EndpointID == o.EndpointID
	})
}

// quiet says whether nothing is left to do.
func (c *checker) quiet() bool {
	w := c.world
	for _, id := range w.ledger.Issued() {
		if w.ledger.Command(id).Running() {
			return false
		}
	}
	for _, e := range w.points {
		if len(e.outbox)+len(e.tasks) > 0 {
			return false
		}
	}
	for n := range partitions {
		if len(w.log.Unread(w.ledger.Position(n))) > 0 {
			return false
		}
	}
	return len(w.later) == 0
}

// atRest looks at everything when nothing moves any more.
func (c *checker) atRest() {
	for id := range c.issues {
		if c.world.ledger.Command(id) == nil {
			c.fail("a command that was accepted is not there")
		}
	}
	for _, id := range c.world.ledger.Issued() {
		c.counts(c.world.ledger.Command(id))
	}
	letters := map[string]int{}
	for _, l := range c.world.ledger.StoredLetters() {
		if l.Source == command.LetterOperation {
			letters[string(l.CommandID)+"/"+string(l.DeviceID)]++
		} else {
			letters[whole(l.Payload)]++
		}
	}
	c.operations(letters)
	c.messages(letters)
	c.readings()
	c.cached()
	for _, id := range c.world.ledger.Issued() { // what users were told is still so
		if v, err := c.world.service.Get(context.Background(), user, id); err == nil {
			c.shown(v)
		}
	}
}

func (c *checker) counts(cmd *command.Command) {
	n := command.Counts{}
	for _, o := range c.world.ledger.Operations() {
		if o.CommandID == cmd.ID {
			n.Total++
			*n.Of(o.State)++
		}
	}
	if n != cmd.Counts {
		c.fail("the counts of %s are %+v, its operations say %+v", c.world.alias(cmd.ID), cmd.Counts, n)
	}
}

func (c *checker) operations(letters map[string]int) {
	for _, o := range c.world.ledger.Operations() {
		name, k := c.name(o.Key()), o.Key()
		want := 0
		if o.State == command.Dead {
			want = 1
		}
		switch {
		case o.State.Open():
			c.fail("%s is still %s", name, o.State)
		case o.State == command.Succeeded && !c.executed[k]:
			c.fail("%s succeeded, and no device did it", name)
		case o.Delivery == command.NeverSent && c.had[k]:
			c.fail("%s is never_sent, and an endpoint had it", name)
		case letters[string(k.CommandID)+"/"+string(k.DeviceID)] != want:
			c.fail("%s is %s and has %d dead letters", name, o.State, letters[string(k.CommandID)+"/"+string(k.DeviceID)])
		}
	}
}

// messages: what was acknowledged is there.
func (c *checker) messages(letters map[string]int) {
	stored := map[string]int{}
	for _, r := range c.world.ledger.StoredReadings() {
		stored[readingName(r)]++
	}
	said := map[string]bool{}
	for _, u := range c.uplinks {
		for _, r := range u.readings {
			said[readingName(r)] = said[readingName(r)] || len(u.appended) > 0
			if n := stored[readingName(r)]; u.acked && !u.flushed && n != 1 {
				c.fail("message %d of %s has its PUBACK, and its reading of %s is stored %d times", u.number, u.from.id, r.DeviceID, n)
			}
		}
		if u.poison && u.acked && !u.flushed && letters[u.payload] != 1 {
			c.fail("message %d of %s is poison, and there are %d dead letters", u.number, u.from.id, letters[u.payload])
		}
		if u.poison != (letters[u.payload] > 0) && u.acked && !u.flushed {
			c.fail("message %d of %s became a dead letter", u.number, u.from.id)
		}
	}
	for name, n := range stored {
		if n != 1 || !said[name] {
			c.fail("the reading %s is stored %d times, said: %v", name, n, said[name])
		}
	}
}

func readingName(r meterread.Reading) string {
	return string(r.DeviceID) + " " + r.Value + " " + r.ReadAt.UTC().Format(time.RFC3339Nano)
}

// readings: in the order that a device said them, as far as it is one endpoint that speaks for it.
func (c *checker) readings() {
	last := map[command.DeviceID]time.Time{}
	for _, r := range c.world.ledger.StoredReadings() {
		if c.lossy || r.DeviceID != "d1" && r.DeviceID != "m02" && r.DeviceID != "n01" {
			continue
		}
		if asked := c.world.ledger.Command(r.CommandID); asked != nil && asked.Priority >= command.RealtimePriority {
			continue // it may have overtaken others
		}
		if r.ReadAt.Before(last[r.DeviceID]) {
			c.fail("readings of %s are not in order", r.DeviceID)
		}
		last[r.DeviceID] = r.ReadAt
	}
}

// cached: the live state at rest is the record.
func (c *checker) cached() {
	for _, b := range c.world.backends {
		for did := true; did; {
			did, _ = b.worker.Carry(context.Background(), true)
		}
	}
	c.world.sleep(10 * time.Second) // what waits for a change that is missing waits no longer
	for _, id := range c.world.ledger.Issued() {
		v, ok, _ := c.world.live.Load(context.Background(), id, 1000)
		if !ok {
			continue
		}
		if is := c.world.ledger.Command(id); v.Counts != is.Counts {
			c.fail("the live state of %s counts %+v, the record %+v", c.world.alias(id), v.Counts, is.Counts)
		}
		for _, o := range v.Operations {
			k := command.Key{CommandID: id, DeviceID: o.DeviceID}
			if is := c.world.ledger.Operation(k); o.State != is.State || o.Version != is.Version {
				c.fail("the live state has %s as %s, the record as %s", c.name(k), o.State, is.State)
			}
		}
	}
}
