package simulator

import (
	"container/list"

	"meterline/meterread"
	"meterline/mqtt"
)

// journal keeps an endpoint's uplinks in the order in which they were made. An entry leaves only after its PUBACK; after a
// reconnect all that are left are sent again with the same message id. One goroutine only.
type journal struct {
	entries *list.List    // of *entry
	unsent  *list.Element // the first that is not on its way on this connection; those after it are not either
	flying  int
	size    int // results and readings in it
	ledger  *Ledger
	stats   *Stats
}

// entry is one message of the journal.
type entry struct {
	id       string // of the message
	channel  mqtt.Channel
	topic    string
	payload  []byte
	size     int // results or readings in it
	readings []reading
	twice    bool // publish it twice
	sent     bool // was on its way at least once: sent again it is a repeat
	place    *list.Element
}

func newJournal(ledger *Ledger, stats *Stats) *journal {
	return &journal{entries: list.New(), ledger: ledger, stats: stats}
}

// add takes an entry in; from here on its readings count as journalled.
func (j *journal) add(e *entry) {
	e.place = j.entries.PushBack(e)
	if j.unsent == nil {
		j.unsent = e.place
	}
	j.size += e.size
	j.stats.journal.Add(1)
	j.stats.readingsJournalled.Add(int64(len(e.readings)))
	for _, r := range e.readings {
		j.ledger.journalled(r)
	}
}

// next is the first entry that is not on its way; nil when there is none. It counts as on its way from now on.
func (j *journal) next() *entry {
	if j.unsent == nil {
		return nil
	}
	e := j.unsent.Value.(*entry)
	j.unsent = j.unsent.Next()
	j.flying++
	return e
}

// acked removes an entry whose PUBACK has come; a second PUBACK for it is nothing.
func (j *journal) acked(e *entry) {
	if e.place == nil {
		return
	}
	if e.place == j.unsent {
		j.unsent = j.unsent.Next()
	} else {
		j.flying--
	}
	j.entries.Remove(e.place)
	e.place = nil
	j.size -= e.size
	for _, r := range e.readings {
		j.ledger.acked(r)
	}
	j.stats.readingsAcked.Add(int64(len(e.readings)))
	j.stats.journal.Add(-1) // last: whoever finds the journals empty finds all that was in them acknowledged
}

// lostConnection makes all entries that are left due again, oldest first.
func (j *journal) lostConnection() {
	j.unsent = j.entries.Front()
	j.flying = 0
}

// owned stamps readings with their device, which their own message may leave out.
func owned(device meterread.DeviceID, readings []reading) []reading {
	all := make([]reading, len(readings))
	for i, r := range readings {
		r.DeviceID = device
		all[i] = r
	}
	return all
}
