package command

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"meterline/meterread"
)

// fact is one thing an entry of the uplink log says: an entry with several results says several. Facts are judged in the
// order of the log.
type fact struct {
	Uplink
	result   *meterread.Result
	ack      *meterread.Ack
	readings *meterread.Readings
	event    *meterread.Event
	bad      []meterread.Bad // parts that could not be understood, or the whole

	again *DeadLetter // that is handled again; nil: it came from the log

	keys    []Key      // operations it is about
	devices []DeviceID // devices that must be known to judge it
}

// factsOf decodes an entry. What cannot be understood becomes a fact too: a dead letter.
func factsOf(u Uplink) (facts []fact) {
	defer func() {
		if r := recover(); r != nil { // a decoder that panics must cost this entry alone
			facts = []fact{fact{Uplink: u}.buried(CausePanic, fmt.Sprint(r))}
		}
	}()
	if u.Corrupt {
		return []fact{fact{Uplink: u}.buried(CauseCorrupt, "the checksum of the entry does not match")}
	}
	f := fact{Uplink: u}
	var err error
	switch u.Kind {
	case UplinkResult:
		return resultFacts(u)
	case UplinkAck:
		var a meterread.Ack
		if a, err = meterread.DecodeAck(u.Payload); err == nil {
			f.ack = &a
			for _, d := range a.DeviceIDs {
				f.keys = append(f.keys, Key{a.CommandID, d})
			}
		}
	case UplinkReadings:
		var r meterread.Readings
		if r, err = meterread.DecodeReadings(u.Payload); err == nil {
			f.readings, f.bad = &r, r.Bad
			f.devices = append(f.devices, u.Endpoint)
			for _, one := range r.Readings {
				f.devices = append(f.devices, one.DeviceID)
			}
		}
	case UplinkEvent, UplinkSecurity:
		var e meterread.Event
		if e, err = meterread.DecodeEvent(u.Payload); err == nil {
			f.event = &e
			f.devices = append(f.devices, u.Endpoint)
			if e.DeviceID != "" {
				f.devices = append(f.devices, e.DeviceID)
			}
		}
	}
	var poison *meterread.Poison
	if errors.As(err, &poison) {
		return []fact{f.buried(poison.Code, poison.Detail)}
	}
	if len(f.bad) > 0 {
		f.devices = append(f.devices, u.Endpoint)
	}
	return []fact{f}
}

func resultFacts(u Uplink) []fact {
	msg, err := meterread.DecodeResults(u.Payload)
	var poison *meterread.Poison
	if errors.As(err, &poison) {
		return []fact{fact{Uplink: u}.buried(poison.Code, poison.Detail)}
	}
	facts := make([]fact, 0, len(msg.Results)+1)
	for i := range msg.Results {
		r := &msg.Results[i]
		facts = append(facts, fact{Uplink: u, result: r, bad: r.Bad, keys: []Key{{r.CommandID, r.DeviceID}}})
	}
	if len(msg.Bad) > 0 {
		facts = append(facts, fact{Uplink: u, bad: msg.Bad, devices: []DeviceID{u.Endpoint}})
	}
	return facts
}

// buried is f as nothing but a dead letter.
func (f fact) buried(code, detail string) fact {
	bad := meterread.Bad{Index: -1, Code: code, Detail: detail, Raw: f.Payload}
	if f.result != nil {
		bad.Index, bad.Raw = f.result.Index, f.result.Raw
	}
	return fact{Uplink: f.Uplink, again: f.again, bad: []meterread.Bad{bad}, devices: []DeviceID{f.Endpoint}}
}

// part is the smallest message around a bad part that can be handled again as it was.
func (f fact) part(b meterread.Bad) []byte {
	list, raw := "", b.Raw
	switch {
	case b.Index < 0 || len(raw) == 0:
	case f.Kind == UplinkReadings:
		list = "readings"
	case f.Kind == UplinkResult:
		list = "results"
		if f.result != nil {
			raw = f.result.Raw
		}
	}
	if list == "" || len(raw) >= len(f.Payload) {
		return f.Payload
	}
	return slices.Concat([]byte(`{"v":1,"`+list+`":[`), raw, []byte(`]}`))
}

// key names the fact so that the same uplink handled twice leaves one trace: by what it says and its place in the message.
func (f fact) key(what string, place int) string {
	h := sha256.New()
	h.Write([]byte(f.Endpoint))
	h.Write([]byte{0})
	h.Write([]byte(f.Kind))
	h.Write([]byte{0})
	h.Write(f.Payload)
	return what + "/" + hex.EncodeToString(h.Sum(nil)[:16]) + "/" + strconv.Itoa(place)
}

// at is when the fact became one: when it was appended, by the record's clock.
func (f fact) at() time.Time { return f.AppendedAt.UTC().Truncate(time.Microsecond) }
