package command

import (
	"encoding/json"
	"fmt"
	"time"

	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

// judge decides, inside one transaction, what facts do to operations, readings, dead letters and events.
type judge struct {
	tx         *Tx
	runTimeout PerKind[time.Duration] // of silence after an operation was heard of
	follow     func(*Operation)       // lets what was queued again follow its device; nil: nothing moves
	nameless   bool                   // a dead letter was made whose tenant is known only when its sender is looked up
	room       letterRoom
	panicked   map[int]string // facts that panicked, by their place, and what they said

	uplink  Position // the last uplink that left a dead letter,
	letters int      // how many it left,
	bytes   int      // and what they hold
}

// take judges one fact. One that panics leaves the transaction in doubt: it must be rolled back, and judged again with that
// fact buried.
func (j *judge) take(place int, f fact) {
	if f.AppendedAt.After(j.tx.Now) { // it was there before this transaction began, whatever the log's clock says
		f.AppendedAt = j.tx.Now
	}
	if f.Corrupt {
		j.bury(f)
		return
	}
	defer func() {
		if r := recover(); r != nil {
			if j.panicked == nil {
				j.panicked = map[int]string{}
			}
			j.panicked[place] = fmt.Sprint(r)
		}
	}()
	if fault.Built {
		fault.Point(fault.JudgeFact + fault.Name(f.Endpoint))
	}
	if f.again != nil && !j.readmit(f) {
		return
	}
	switch {
	case f.result != nil:
		j.result(f)
	case f.ack != nil:
		j.ack(f)
	case f.readings != nil:
		j.readings(f)
	case f.event != nil:
		j.event(f)
	default:
		j.hint(f)
	}
	j.bury(f)
}

// hint moves what was sent on that very session, and nothing else.
func (j *judge) hint(f fact) {
	for _, k := range f.keys {
		o := j.tx.Operations[k]
		if o == nil || o.State != Sent {
			continue
		}
		switch f.Kind {
		case UplinkDelivered:
			if o.MessageID == string(f.Payload) {
				o.must(o.Deliver(j.tx.Now, j.runTimeout.Of(o.Kind)))
			}
		case UplinkUndeliverable:
			if o.MessageID == string(f.Payload) {
				j.takeBack(o, j.tx.Now.Add(holdOff), "undeliverable")
			}
		case UplinkDisconnected:
			if o.Epoch == f.Epoch && o.Gateway == f.Gateway || fault.Bug(fault.BugOldDisconnect) {
				j.takeBack(o, j.tx.Now, "endpoint gone")
			}
		}
	}
}

// takeBack queues an operation again that was not delivered; should its device have moved meanwhile, where that is now. From
// its deadline on it stays where it is: where it would go, deadlines may have been swept already.
func (j *judge) takeBack(o *Operation, next time.Time, reason string) {
	if !j.tx.Now.Before(o.ExpiresAt) {
		return
	}
	o.must(o.Requeue(j.tx.Now, next, false, reason))
	if j.follow != nil {
		j.follow(o)
	}
}

// result ends its operation, or comes late, or is for none.
func (j *judge) result(f fact) {
	r := f.result
	o := j.tx.Operations[f.keys[0]]
	if o == nil {
		j.letter(f, f.keys[0], meterread.Bad{Index: r.Index, Code: CauseUnknownCommand, Detail: "no such operation", Raw: r.Raw})
		return
	}
	if !o.SpokenForBy(f.Endpoint) {
		j.security(f, o.Tenant, o.DeviceID, "a result for a device that the sender does not speak for")
		return
	}
	if r.Attempt != 0 && r.Attempt != o.Attempts && fault.Bug(fault.BugFirstAnswerLost) {
		return
	}
	late := o.Over(f.at())
	if late && o.answered(r) {
		return // the same answer again
	}
	readings := make([]meterread.Reading, len(r.Readings))
	for i, one := range r.Readings {
		readings[i] = one.Received(f.at())
		readings[i].Late = late
	}
	j.tx.Readings = append(j.tx.Readings, readings...)
	switch {
	case late && o.State.Open() && o.EndpointID != f.Endpoint && !o.ShownExpired:
		// The log of the endpoint that has it now may hold an answer from before the deadline: its own sweep ends it.
	case late:
		if o.State.Open() {
			o.must(o.Expire(j.tx.Now))
		}
		o.Late(j.tx.Now)
	case !r.Final:
		o.keep(readings)
		j.begun(o, f)
	case r.Status == meterread.StatusOK && (len(r.Bad) == 0 || len(readings)+len(o.Readings) > 0):
		o.keep(readings)
		o.must(o.Succeed(j.tx.Now))
	case r.Status == meterread.StatusOK:
		o.must(o.Fail(j.tx.Now, Failure{CodeNoValidReading, "no reading of the answer could be understood"}))
	default:
		o.keep(readings)
		o.must(o.Fail(j.tx.Now, Failure{orElse(r.Code, "INTERNAL"), r.Message}))
	}
}

// CodeNoValidReading is the error code of an operation whose answer held only readings that could not be understood.
const CodeNoValidReading = "NO_VALID_READING"

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// answered says whether this is the very answer that the operation ended by, or a part of it: a result that is sent twice, or
// that had overtaken others and is met in its turn, is no late result.
func (o *Operation) answered(r *meterread.Result) bool {
	for _, one := range r.Readings {
		if !o.has(one) {
			return false
		}
	}
	switch {
	case !r.Final && len(r.Readings) > 0: // kept before, however it ended then
		return true
	case o.State == Succeeded:
		return r.Status == meterread.StatusOK
	case o.State != Failed || o.Error == nil:
		return false
	case !r.Final:
		return true
	case r.Status == meterread.StatusOK:
		return o.Error.Code == CodeNoValidReading && len(r.Readings) == 0
	}
	return o.Error.Code == orElse(r.Code, "INTERNAL")
}

func (o *Operation) has(r meterread.Reading) bool {
	for _, had := range o.Readings {
		if had.Item == r.Item && had.ReadAt.Equal(r.ReadAt) && had.Value == r.Value {
			return true
		}
	}
	return false
}

// keep adds readings to the operation's own result, each once.
func (o *Operation) keep(rs []meterread.Reading) {
	for _, r := range rs {
		if !o.has(r) {
			o.Readings = append(o.Readings, r)
		}
	}
}

func (j *judge) ack(f fact) {
	a := f.ack
	for i, k := range f.keys {
		o := j.tx.Operations[k]
		switch {
		case o == nil:
			j.letter(f, k, meterread.Bad{Index: i, Code: CauseUnknownCommand, Detail: "no such operation: " + string(k.DeviceID), Raw: f.Payload})
		case !o.SpokenForBy(f.Endpoint):
			j.security(f, o.Tenant, o.DeviceID, "an ack for a device that the sender does not speak for")
		case o.Over(f.at()):
		case a.Status == meterread.StatusRejected:
			o.must(o.Fail(j.tx.Now, Failure{orElse(a.Code, "REJECTED"), a.Message}))
		default:
			j.begun(o, f)
		}
	}
}

// begun notes that the endpoint works on the operation. From one that the operation has been moved away from since it says
// nothing: who owns it now would not hear of it.
func (j *judge) begun(o *Operation, f fact) {
	if (o.EndpointID == f.Endpoint || fault.Bug(fault.BugOthersBegin)) && o.State.CanBecome(Accepted) {
		o.must(o.Accept(j.tx.Now, j.runTimeout.Of(o.Kind)))
	}
}

// readings are values nobody asked for. They count for devices that the sender speaks for.
func (j *judge) readings(f fact) {
	for i, r := range f.readings.Readings {
		d, known := j.tx.Devices[r.DeviceID]
		switch {
		case !known:
			raw, _ := json.Marshal(map[string]any{ // as it was, in other words
				"device_id": r.DeviceID, "item": r.Item, "value": r.Value, "unit": r.Unit, "read_at": r.ReadAt, "quality": r.Quality,
			})
			j.letter(f, Key{DeviceID: r.DeviceID}, meterread.Bad{Index: i, Code: CauseUnknownDevice, Detail: "no such device: " + string(r.DeviceID), Raw: raw})
		case d.EndpointID != f.Endpoint:
			j.security(f, d.Tenant, d.ID, "a reading for a device that the sender does not speak for")
		default:
			j.tx.Readings = append(j.tx.Readings, r.Received(f.at()))
		}
	}
}

func (j *judge) event(f fact) {
	e := f.event
	about := orElse(string(e.DeviceID), string(f.Endpoint))
	d, known := j.tx.Devices[DeviceID(about)]
	switch {
	case !known:
		j.letter(f, Key{DeviceID: DeviceID(about)}, meterread.Bad{Index: -1, Code: CauseUnknownDevice, Detail: "no such device: " + about, Raw: f.Payload})
		return
	case d.EndpointID != f.Endpoint:
		j.security(f, d.Tenant, d.ID, "an event for a device that the sender does not speak for")
		return
	}
	at := e.At
	if at.IsZero() {
		at = f.at()
	}
	kind := e.Type
	if f.Kind == UplinkSecurity {
		kind = EventSecurity
	}
	key := f.key("event", 0)
	if e.MessageID == "" && e.At.IsZero() {
		key += "/" + string(f.Position) // nothing tells it from the same said again
	}
	j.tx.Events = append(j.tx.Events, Event{
		Tenant: d.Tenant, EndpointID: f.Endpoint, DeviceID: d.ID, Type: kind, At: at, ReceivedAt: f.at(), Data: e.Data, Key: key,
	})
}

// security notes what went against the rules, for the tenant whose device it was about.
func (j *judge) security(f fact, t fleet.Tenant, d DeviceID, what string) {
	data, _ := json.Marshal(map[string]string{"sender": string(f.Endpoint), "uplink": string(f.Kind), "detail": what})
	j.tx.Events = append(j.tx.Events, Event{
		Tenant: t, EndpointID: f.Endpoint, DeviceID: d, Type: EventSecurity, At: f.at(), ReceivedAt: f.at(), Data: data,
		Key: f.key("security/"+string(d), 0),
	})
}

// bury makes dead letters of what could not be understood.
func (j *judge) bury(f fact) {
	var about Key
	if f.result != nil {
		about = f.keys[0]
	}
	for _, b := range f.bad {
		j.letter(f, about, b)
	}
}

// letter makes a dead letter of a part of a fact; about is the device, and the command, that the part names.
func (j *judge) letter(f fact, about Key, b meterread.Bad) {
	place := b.Index
	l := DeadLetter{
		Source: LetterUplink, Cause: b.Code, Detail: b.Detail, EndpointID: f.Endpoint, Kind: f.Kind, Epoch: f.Epoch, Gateway: f.Gateway,
		Payload: f.part(b), ReceivedAt: f.at(), CreatedAt: j.tx.Now, Status: LetterOpen, Attempt: 1,
		CommandID: about.CommandID, DeviceID: about.DeviceID,
	}
	if d, ok := j.tx.Devices[f.Endpoint]; ok {
		l.Tenant = d.Tenant
	}
	if r := f.result; r != nil {
		place += (r.Index + 1) * 100_000
		if o := j.tx.Operations[about]; o != nil && o.SpokenForBy(f.Endpoint) {
			l.Tenant = o.Tenant
		}
	}
	if a := f.again; a != nil {
		l.Tenant, l.ParentID, l.Attempt = a.Tenant, a.ID, a.Attempt+1
	}
	if !j.fits(f, &l) || !j.hasRoom(f, l) {
		return
	}
	j.nameless = j.nameless || l.Tenant == ""
	l.Key = f.key("uplink/"+l.Cause, place)
	if f.again != nil { // what fails again is another letter, however often that was the case before
		l.Key += "/" + f.again.ID
	}
	j.tx.DeadLetters = append(j.tx.DeadLetters, l)
}

// The bounds of the dead letters that one uplink leaves. A message of thousands of bad parts must not become gigabytes.
const (
	lettersMost     = 100
	letterBytesMost = 1 << 20
)

// fits counts the letters of an uplink. The first beyond the bound stands for all that follow.
func (j *judge) fits(f fact, l *DeadLetter) bool {
	if j.uplink != f.Position || f.Position == "" {
		j.uplink, j.letters, j.bytes = f.Position, 0, 0
	}
	j.letters++
	j.bytes += len(l.Payload)
	switch {
	case j.letters > lettersMost:
		return false
	case j.letters == lettersMost || j.bytes > letterBytesMost:
		j.letters = lettersMost
		l.Cause, l.Detail, l.Payload = CauseTooMany, "this and all further parts that could not be understood", f.Payload
	}
	return true
}
