package simulator

import (
	"math"
	"sync"
	"time"

	"meterline/meterread"
)

// Ledger remembers every reading that endpoints journalled and whether its PUBACK came: what Check compares the record
// with. It grows with every reading. A nil Ledger keeps nothing. Safe for concurrent use.
type Ledger struct {
	mu      sync.Mutex
	devices map[meterread.DeviceID]map[readingKey]*entered
}

type readingKey struct {
	item   meterread.Item
	readAt int64 // µs
}

type entered struct {
	value string
	acked bool
}

// NewLedger makes an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{devices: map[meterread.DeviceID]map[readingKey]*entered{}}
}

func keyOf(item meterread.Item, at time.Time) readingKey { return readingKey{item, at.UnixMicro()} }

func (l *Ledger) journalled(r reading) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.devices[r.DeviceID]
	if of == nil {
		of = map[readingKey]*entered{}
		l.devices[r.DeviceID] = of
	}
	k := keyOf(r.Item, r.ReadAt)
	if of[k] == nil { // a repeat says what was said before
		of[k] = &entered{value: r.Value}
	}
}

func (l *Ledger) acked(r reading) {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := l.devices[r.DeviceID][keyOf(r.Item, r.ReadAt)]; e != nil {
		e.acked = true
	}
}

// Acked counts the distinct readings whose PUBACK has come.
func (l *Ledger) Acked() int {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, of := range l.devices {
		for _, e := range of {
			if e.acked {
				n++
			}
		}
	}
	return n
}

// entries copies what is known of one device, and says which read_at is the first.
func (l *Ledger) entries(device meterread.DeviceID) (of map[readingKey]entered, first time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of = make(map[readingKey]entered, len(l.devices[device]))
	earliest := int64(math.MaxInt64)
	for k, e := range l.devices[device] {
		of[k] = *e
		earliest = min(earliest, k.readAt)
	}
	return of, time.UnixMicro(earliest)
}

func (l *Ledger) deviceIDs() []meterread.DeviceID {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]meterread.DeviceID, 0, len(l.devices))
	for id := range l.devices {
		ids = append(ids, id)
	}
	return ids
}
