package commandtest

import (
	"cmp"
	"slices"

	"meterline/command"
	"meterline/meterread"
)

// readingKey is what a reading is unique by, but for its revision.
type readingKey struct {
	device meterread.DeviceID
	item   meterread.Item
	readAt int64 // microseconds since 1970
}

func keyOf(r meterread.Reading) readingKey {
	return readingKey{r.DeviceID, r.Item, r.ReadAt.UnixMicro()}
}

// storeReadings adds the readings that are new and answers with them: the first of each key in order of the keys, then those
// that are another value for a time that has one.
func (l *Ledger) storeReadings(x *command.Tx) []meterread.Reading {
	var first, others []meterread.Reading
	taken := map[readingKey]bool{}
	for _, r := range x.Readings {
		if k := keyOf(r); !taken[k] {
			taken[k] = true
			first = append(first, r)
		} else {
			others = append(others, r)
		}
	}
	slices.SortFunc(first, func(a, b meterread.Reading) int {
		return cmp.Or(cmp.Compare(a.DeviceID, b.DeviceID), cmp.Compare(a.Item, b.Item), a.ReadAt.Compare(b.ReadAt))
	})
	var fresh, again []meterread.Reading
	for _, r := range first {
		if len(l.values[keyOf(r)]) == 0 {
			fresh = append(fresh, l.addReading(r))
		} else {
			again = append(again, r)
		}
	}
	for _, r := range append(again, others...) {
		if !slices.Contains(l.values[keyOf(r)], r.Value) {
			r.Quality = meterread.Suspect
			fresh = append(fresh, l.addReading(r))
		}
	}
	for _, r := range fresh {
		l.read[r.DeviceID] = x.Now
	}
	return fresh
}

func (l *Ledger) addReading(r meterread.Reading) meterread.Reading {
	k := keyOf(r)
	l.values[k] = append(l.values[k], r.Value)
	l.readings = append(l.readings, r)
	return r
}
