package commandtest

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// Ledger is the record, in memory.
type Ledger struct {
	command.Book // nil: what is not implemented here is not asked for

	clock      func() time.Time
	partitions []partition
	workers    map[string]time.Time // when each was seen last
	devices    map[fleet.DeviceID]fleet.Device

	commands   map[command.ID]*command.Command
	made       map[command.ID]int // operations that have been made of each
	order      []command.ID       // of their Seq
	operations map[command.Key]*command.Operation
	of         map[command.ID][]*command.Operation // in order of their devices

	readings []meterread.Reading // in the order they were stored
	values   map[readingKey][]string
	read     map[meterread.DeviceID]time.Time
	letters  []command.DeadLetter
	events   []command.Event
	keys     map[string]bool // of letters and events

	// Wrote is told of every operation that a transaction wrote, before others can see it; was is nil when it is new.
	Wrote func(was, is *command.Operation)
}

var _ command.Ledger = (*Ledger)(nil)

type partition struct {
	owner            string
	epoch            int64
	lease, idleSince time.Time
	at               command.LogPosition
}

// NewLedger makes an empty record with so many partitions, whose clock is the one given.
func NewLedger(partitions int, clock func() time.Time) *Ledger {
	l := &Ledger{
		clock: clock, partitions: make([]partition, partitions), workers: map[string]time.Time{}, devices: map[fleet.DeviceID]fleet.Device{},
		commands: map[command.ID]*command.Command{}, made: map[command.ID]int{}, operations: map[command.Key]*command.Operation{},
		of: map[command.ID][]*command.Operation{}, values: map[readingKey][]string{}, read: map[meterread.DeviceID]time.Time{},
		keys: map[string]bool{}, Wrote: func(_, _ *command.Operation) {},
	}
	for n := range l.partitions {
		l.partitions[n].at.Partition = n
	}
	return l
}

func (l *Ledger) now() time.Time { return l.clock().UTC().Truncate(time.Microsecond) }

// Now implements command.Ledger.
func (l *Ledger) Now(context.Context) (time.Time, error) { return l.now(), nil }

// load copies an operation, so that what moves the copy leaves the record alone.
func (l *Ledger) load(o *command.Operation) *command.Operation {
	c := o.Copy()
	c.ShownExpired = l.commands[o.CommandID].ShownExpired
	return c
}

// store puts an operation in as it is now.
func (l *Ledger) store(o *command.Operation) {
	was := l.operations[o.Key()]
	kept := o.Copy()
	l.Wrote(was, kept)
	l.operations[o.Key()] = kept
	list := l.of[o.CommandID]
	i, found := slices.BinarySearchFunc(list, o.DeviceID, func(o *command.Operation, d meterread.DeviceID) int { return cmp.Compare(o.DeviceID, d) })
	if found {
		list[i] = kept
	} else {
		l.of[o.CommandID] = slices.Insert(list, i, kept)
	}
}

// fenced says whether all partitions of f are owned with their epochs.
func (l *Ledger) fenced(f command.Fence) bool {
	for n, epoch := range f {
		if l.partitions[n].epoch != epoch {
			return false
		}
	}
	return true
}

// Change implements command.Ledger.
func (l *Ledger) Change(_ context.Context, f command.Fence, need command.Need, decide func(*command.Tx) error) (command.Committed, error) {
	if !l.fenced(f) {
		return command.Committed{}, command.ErrLost
	}
	x, before, err := l.decided(need, false, decide)
	if err == nil && l.passedBy(x, before) {
		x, before, err = l.decided(need, true, decide)
	}
	if err != nil {
		return command.Committed{}, err
	}
	done := command.Committed{Now: x.Now, Changes: l.writeMoves(x, before), Readings: l.storeReadings(x)}
	l.storeLetters(x)
	for _, p := range x.Positions {
		l.partitions[p.Partition].at = p
	}
	return done, nil
}

// decided is what decide makes of what is needed, and what the operations were before; afresh: also of what is known, as it is in
// the record.
func (l *Ledger) decided(need command.Need, afresh bool, decide func(*command.Tx) error) (x *command.Tx, before map[command.Key]*command.Operation, err error) {
	before = map[command.Key]*command.Operation{}
	x = &command.Tx{
		Now: l.now(), Operations: make(map[command.Key]*command.Operation, len(need.Operations)+len(need.Known)),
		Devices: make(map[meterread.DeviceID]fleet.Device, len(need.Devices)),
	}
	for _, k := range need.Operations {
		if o := l.operations[k]; o != nil {
			before[k] = o
		}
	}
	for _, o := range need.Known {
		if afresh {
			o = l.operations[o.Key()]
		} else {
			l.believable(o)
		}
		before[o.Key()] = o
	}
	for k, o := range before {
		x.Operations[k] = l.load(o)
	}
	for _, id := range need.Devices {
		if d, ok := l.devices[id]; ok {
			x.Devices[id] = d
		}
	}
	return x, before, decide(x)
}

// believable panics when an operation that is believed to be the one of a version in the record is another.
func (l *Ledger) believable(o *command.Operation) {
	is := l.operations[o.Key()]
	if is.Version != o.Version {
		return
	}
	if was := o.Copy(); !reflect.DeepEqual(was, is.Copy()) {
		panic(fmt.Sprintf("commandtest: believed to be\n%+v, is\n%+v", was, is))
	}
}

// passedBy says whether an operation that decide moved is of another version in the record than it was believed to be.
func (l *Ledger) passedBy(x *command.Tx, before map[command.Key]*command.Operation) bool {
	for k, was := range before {
		if was.Version != l.operations[k].Version && isMoved(was, x.Operations[k]) {
			return true
		}
	}
	return false
}

func isMoved(was, is *command.Operation) bool {
	return is.Version != was.Version || len(is.Readings) != len(was.Readings)
}

// writeMoves writes the operations that decide moved and what follows from them for their commands.
func (l *Ledger) writeMoves(x *command.Tx, before map[command.Key]*command.Operation) []command.Change {
	var moved []*command.Operation
	for k, o := range x.Operations {
		was := before[k]
		if !isMoved(was, o) {
			continue
		}
		if o.Version == was.Version { // a part of its answer came
			o.Version++
			o.UpdatedAt = x.Now
		}
		moved = append(moved, o)
	}
	slices.SortFunc(moved, func(a, b *command.Operation) int { return compareKeys(a.Key(), b.Key()) })
	return l.write(x.Now, moved)
}

func compareKeys(a, b command.Key) int {
	return cmp.Or(cmp.Compare(a.CommandID, b.CommandID), cmp.Compare(a.DeviceID, b.DeviceID))
}

// write writes operations, in order of their keys, and counts them.
func (l *Ledger) write(now time.Time, moved []*command.Operation) []command.Change {
	var changes []command.Change
	for i := 0; i < len(moved); {
		j := i
		c := l.commands[moved[i].CommandID]
		change := command.Change{From: c.Version}
		for ; j < len(moved) && moved[j].CommandID == c.ID; j++ {
			o := moved[j]
			o.Changed = c.Version + 1
			l.count(c, l.operations[o.Key()].State, o)
			l.store(o)
		}
		c.Version++
		l.finish(c, now)
		change.Operations, change.Command = moved[i:j:j], l.show(c)
		changes = append(changes, change)
		i = j
	}
	return changes
}

func (l *Ledger) count(c *command.Command, was command.State, o *command.Operation) {
	if was == o.State {
		return
	}
	*c.Counts.Of(was)--
	*c.Counts.Of(o.State)++
	if !o.State.Open() && o.Error != nil {
		c.Errors[o.Error.Code]++
	}
}

// finish ends a command whose last operation has ended.
func (l *Ledger) finish(c *command.Command, now time.Time) {
	if c.Running() && !c.Expanding && c.Counts.Open() == 0 {
		c.FinishedAt = now
	}
}

// show copies a command, with its errors when it has any.
func (l *Ledger) show(c *command.Command) command.Command {
	shown := *c
	shown.Errors = nil
	if c.Counts.Failed+c.Counts.Dead > 0 {
		shown.Errors = make(map[string]int, len(c.Errors))
		for code, n := range c.Errors {
			shown.Errors[code] = n
		}
	}
	return shown
}

// storeLetters keeps dead letters and events; one whose key is there already is the same.
func (l *Ledger) storeLetters(x *command.Tx) {
	for _, d := range x.DeadLetters {
		if l.isNew("letter/" + d.Key) {
			l.letters = append(l.letters, d)
		}
	}
	for _, e := range x.Events {
		if l.isNew("event/" + string(e.EndpointID) + "/" + e.Key) {
			l.events = append(l.events, e)
		}
	}
}

func (l *Ledger) isNew(key string) bool {
	had := l.keys[key]
	l.keys[key] = true
	return !had
}

// End implements command.Ledger.
func (l *Ledger) End(_ context.Context, f command.Fence, ids []command.ID, as command.State, reason string, after meterread.DeviceID,
	limit int) (done command.Committed, last meterread.DeviceID, more bool, err error) {
	if !l.fenced(f) {
		return done, "", false, command.ErrLost
	}
	if len(ids) != 1 {
		after = "" // each as a whole
	}
	now := l.now()
	var open []*command.Operation
	for _, id := range slices.Sorted(slices.Values(ids)) {
		for _, o := range l.of[id] {
			_, mine := f[o.Partition]
			if o.DeviceID > after && o.State.Open() && (f == nil || mine) && (as == command.Expired) == !o.ExpiresAt.After(now) && len(open) < limit {
				open = append(open, l.ended(o, now, as, reason))
			}
		}
	}
	done.Now = now
	if len(open) == 0 {
		return done, after, false, nil
	}
	done.Changes = l.write(now, open)
	for i := range done.Changes {
		done.Changes[i].Ended = len(done.Changes[i].Operations)
	}
	if len(ids) == 1 {
		last = open[len(open)-1].DeviceID
	}
	return done, last, len(open) == limit, nil
}

// ended is o as it ends without being asked.
func (l *Ledger) ended(o *command.Operation, now time.Time, as command.State, reason string) *command.Operation {
	o = l.load(o)
	o.State, o.UpdatedAt, o.Error, o.ShownExpired = as, now, nil, false // the record ends without loading
	o.Moves = append(o.Moves, command.Move{State: as, At: now, Reason: reason})
	o.Version++
	return o
}
