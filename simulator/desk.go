package simulator

import (
	"errors"
	"slices"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// installation is what stands behind an endpoint. IPC and direct meter differ in how a target finds its meter, nothing
// else.
type installation interface {
	find(command.Target) (*Meter, *bus, error) // the error is the answer NO_SUCH_METER
	answersItself(meterread.DeviceID) bool     // device.ping may be for the endpoint
	meters() []*Meter
}

// desk takes up commands and carries them out, bus by bus, with the faults that were ordered. It knows no network:
// answers go to `answer`. One goroutine only.
type desk struct {
	behaviour *Behaviour
	site      installation
	memory    *memory
	agenda    *agenda
	stats     *Stats
	now       func() time.Time
	acts      func(*command.Message, meterread.DeviceID) // a meter is asked
	repeats   func(*command.Message, meterread.DeviceID) // it is not, since it was before
	answer    func(*result, fate)                        // gets every result once when it is to leave, in order
	open      int                                        // operations taken up whose results have not gone to answer
}

// job is one operation on its way to a meter.
type job struct {
	message  *command.Message
	target   command.Target
	meter    *Meter
	entry    *remembered
	received time.Time
}

// take takes up all operations of a message, or answers them at once. It gives the devices that are at work now, for the
// one up/ack of the message.
func (d *desk) take(m *command.Message) []meterread.DeviceID {
	now := d.now()
	d.stats.commands.Add(1)
	d.stats.operations.Add(int64(len(m.Targets)))
	var accepted []meterread.DeviceID
	for _, t := range m.Targets {
		key := operationKey{m.CommandID, t.DeviceID}
		if known := d.memory.find(key, now); known != nil {
			d.stats.repeats.Add(1)
			d.repeats(m, t.DeviceID)
			known.attempt = max(known.attempt, m.Attempt)
			if known.result == nil {
				accepted = append(accepted, t.DeviceID) // already at it: its answer will name this attempt
			} else {
				d.open++
				d.repeat(known)
			}
			continue
		}
		j := &job{message: m, target: t, received: now, entry: d.memory.begin(key, m.Attempt, m.ExpiresAt, now)}
		d.open++
		if d.begin(j, now) {
			accepted = append(accepted, t.DeviceID)
		}
	}
	return accepted
}

// begin puts a job on its bus; false when it is answered without one.
func (d *desk) begin(j *job, now time.Time) bool {
	kind := j.message.Kind
	switch {
	case d.isOver(j, now):
		d.expire(j, now)
		return false
	case !slices.Contains(command.Kinds, kind):
		d.refuse(j, codeUnsupportedKind, string(kind), now)
		return false
	case d.site.answersItself(j.target.DeviceID):
		if kind == command.DevicePing {
			d.acts(j.message, j.target.DeviceID)
			d.finish(j, fate{}, nil, &now, now)
		} else {
			d.refuse(j, codeUnsupportedKind, "an IPC has no registers of its own", now)
		}
		return false
	}
	meter, line, err := d.site.find(j.target)
	if err != nil {
		d.refuse(j, codeNoSuchMeter, err.Error(), now)
		return false
	}
	j.meter = meter
	line.deferred = append(line.deferred, j)
	d.advance(line)
	return true
}

// advance asks the next meter of a bus, unless it is still waiting for an answer.
func (d *desk) advance(b *bus) {
	for !b.asking && len(b.deferred) > 0 {
		j := b.deferred[0]
		b.deferred[0] = nil
		b.deferred = b.deferred[1:]
		asked := d.now()
		if d.isOver(j, asked) {
			d.expire(j, asked)
			continue
		}
		d.stats.acted.Add(1)
		d.acts(j.message, j.target.DeviceID)
		f := j.meter.dice.answer()
		f.timeout = f.timeout && b.serial
		if f.timeout {
			f.takes = d.behaviour.BusTimeout
		}
		b.asking = true
		d.agenda.add(asked.Add(f.takes), func() {
			b.asking = false
			d.answered(j, f, asked)
			d.advance(b)
		})
	}
}

// answered carries out what was asked, at the moment in which the meter answers.
func (d *desk) answered(j *job, f fate, asked time.Time) {
	now := d.now()
	switch {
	case f.timeout:
		d.stats.busTimeouts.Add(1)
		d.finish(j, f, failure(codeBusTimeout, "no answer in "+d.behaviour.BusTimeout.String()), &asked, now)
		return
	case f.code != "":
		d.stats.errors.Add(1)
		d.finish(j, f, failure(f.code, "fault to order"), &asked, now)
		return
	}
	items := j.target.Items
	if len(items) == 0 {
		items = j.message.Items
	}
	readings, err := j.meter.carryOut(j.message.Kind, items, j.message.Params, now)
	r := &result{Status: meterread.StatusOK, Readings: readings}
	switch {
	case errors.Is(err, errNoSuchItem):
		r = failure(codeNoSuchItem, err.Error())
	case err != nil:
		r = failure(codeMeterRefused, err.Error())
	}
	d.finish(j, f, r, &asked, now)
}

func failure(code, message string) *result {
	return &result{Status: meterread.StatusError, Code: code, Message: message}
}

func (d *desk) isOver(j *job, now time.Time) bool {
	return !j.message.ExpiresAt.IsZero() && !now.Before(j.message.ExpiresAt)
}

func (d *desk) expire(j *job, now time.Time) {
	d.stats.expired.Add(1)
	d.refuse(j, codeExpired, "over since "+j.message.ExpiresAt.UTC().Format(time.RFC3339Nano), now)
}

func (d *desk) refuse(j *job, code, message string, now time.Time) {
	d.finish(j, fate{}, &result{Status: meterread.StatusRejected, Code: code, Message: message}, nil, now)
}

// finish remembers a result and lets it go, or not, as its fate will have it. A nil result is a plain ok.
func (d *desk) finish(j *job, f fate, r *result, asked *time.Time, now time.Time) {
	if r == nil {
		r = &result{Status: meterread.StatusOK}
	}
	r.CommandID, r.DeviceID, r.Final = j.message.CommandID, j.target.DeviceID, true
	r.Trace = trace{ReceivedAt: j.received.UTC(), AnsweredAt: now.UTC()}
	if asked != nil {
		at := asked.UTC()
		r.Trace.AskedAt = &at
	}
	j.entry.result = r
	d.leave(j.entry, f)
}

// repeat sends a remembered result once more, with a fate of its own: no better luck is promised to a repeat.
func (d *desk) repeat(known *remembered) {
	f := fate{}
	for _, m := range d.site.meters() {
		if m.id == known.key.device {
			f = m.dice.answer()
			break
		}
	}
	d.leave(known, f)
}

func (d *desk) leave(known *remembered, f fate) {
	r := *known.result
	r.Attempt = known.attempt
	switch {
	case f.lost:
		d.stats.lost.Add(1)
		d.open--
	case f.late:
		d.stats.late.Add(1)
		d.agenda.add(d.now().Add(d.behaviour.LateBy), func() { d.depart(&r, f) })
	default:
		d.depart(&r, f)
	}
}

func (d *desk) depart(r *result, f fate) {
	d.open--
	d.answer(r, f)
}
