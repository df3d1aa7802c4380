package command

import (
	"encoding/json"
	"fmt"
	"time"
)

// LetterLoad is how many dead letters of an endpoint's uplinks are open, and what they hold.
type LetterLoad struct {
	Letters int
	Bytes   int
}

// DefaultMaxLetters is the bound on one endpoint's open dead letters, and letterBytesOpen on what they hold: a device that
// sends rubbish must not fill the record.
const (
	DefaultMaxLetters = 10_000
	letterBytesOpen   = 64 << 20
)

// letterRoom holds the dead letters of one transaction to the bound. It belongs to a judge.
type letterRoom struct {
	most      int                   // letters that may be open per endpoint; 0 means DefaultMaxLetters
	uncounted map[DeviceID]struct{} // endpoints that made letters, and whose open ones are not known
	dropped   map[string]int        // not kept, by cause
	again     map[string]bool       // replayed letters that have left one
}

// hasRoom says whether the letter is kept. The first that a replayed letter leaves always is: it takes its parent's place.
// While nothing is known of the endpoint everything is kept, and noted: whoever judges has to look, and judge again.
func (j *judge) hasRoom(f fact, l DeadLetter) bool {
	r := &j.room
	if f.again != nil && !r.again[f.again.ID] {
		if r.again == nil {
			r.again = map[string]bool{}
		}
		r.again[f.again.ID] = true
		return true
	}
	load, counted := j.tx.Letters[f.Endpoint]
	if !counted {
		if r.uncounted == nil {
			r.uncounted = map[DeviceID]struct{}{}
		}
		r.uncounted[f.Endpoint] = struct{}{}
		return true
	}
	most := r.most
	if most == 0 {
		most = DefaultMaxLetters
	}
	if load.Letters >= most || load.Bytes+len(l.Payload) > letterBytesOpen {
		if r.dropped == nil {
			r.dropped = map[string]int{}
		}
		r.dropped[l.Cause]++
		j.noRoom(f, load)
		return false
	}
	j.tx.Letters[f.Endpoint] = LetterLoad{load.Letters + 1, load.Bytes + len(l.Payload)}
	return true
}

// noRoom tells the endpoint's tenant, once an hour, that its dead letters are not kept.
func (j *judge) noRoom(f fact, load LetterLoad) {
	d, known := j.tx.Devices[f.Endpoint]
	if !known {
		return
	}
	data, _ := json.Marshal(map[string]any{"sender": f.Endpoint, "detail": "too many dead letters are open: further ones are not kept",
		"open": load.Letters, "bytes": load.Bytes})
	hour := j.tx.Now.UTC().Truncate(time.Hour)
	key := fmt.Sprintf("dead-letters-full/%d", hour.Unix())
	for _, e := range j.tx.Events {
		if e.EndpointID == f.Endpoint && e.Key == key {
			return
		}
	}
	j.tx.Events = append(j.tx.Events, Event{
		Tenant: d.Tenant, EndpointID: f.Endpoint, DeviceID: f.Endpoint, Type: EventSecurity, At: f.at(), ReceivedAt: f.at(), Data: data, Key: key,
	})
}
