package checker

import (
	"cmp"
	"slices"
	"time"

	"meterline/testkit/history"
)

// summary is what a run shows beside its violations, and whether it shows anything.
func (j *judge) summary() {
	m := j.model
	j.Loaded = max(0, m.loadTo-m.loadFrom)
	j.UnderLoad = j.storedUnderLoad()
	j.Resends, j.Duplicates = m.resends, m.resends+m.copies
	j.Faults = countFaults(m.faults)
	for _, f := range j.Faults {
		if f.Hit < f.Armed {
			j.Void = append(j.Void, "not every armed fault was hit: "+f.Name)
		}
	}
	if j.Resends == 0 {
		j.Void = append(j.Void, "no uplink was sent again")
	}
	if j.Duplicates == 0 {
		j.Void = append(j.Void, "no duplicate was seen on the wire")
	}
	if j.AckedReadings == 0 {
		j.Void = append(j.Void, "no reading was acknowledged")
	}
	if j.Commands == 0 {
		j.Void = append(j.Void, "no command was accepted")
	}
	for _, h := range m.heals {
		r := Recovery{Fault: nameOf(h), Uplink: since(m.ackTimes, h.T), Accepted: since(m.acceptTimes, h.T), Ended: since(m.endTimes, h.T)}
		j.Recoveries = append(j.Recoveries, r)
		j.Longest = max(j.Longest, r.Uplink, r.Accepted, r.Ended)
	}
}

// storedUnderLoad counts the stored readings whose PUBACK came while the load lasted, not those of a backlog that was only
// worked off when devices fell silent.
func (j *judge) storedUnderLoad() (n int) {
	for k, s := range j.model.readings {
		_, there := j.stored[k]
		if there && s.by.acked && s.by.ackT >= j.model.loadFrom && s.by.ackT <= j.model.loadTo {
			n++
		}
	}
	return n
}

// since is how long after t the next of the moments is; negative when there is none.
func since(moments []time.Duration, t time.Duration) time.Duration {
	i, _ := slices.BinarySearch(moments, t)
	if i == len(moments) {
		return -1
	}
	return moments[i] - t
}

func nameOf(e history.Event) string {
	if e.Fault == nil {
		return e.ID
	}
	return e.Fault.Name
}

// countFaults counts by name what was armed and what is known to have happened. What happened was armed.
func countFaults(events []history.Event) []FaultCount {
	armed, hit := map[string]map[string]bool{}, map[string]map[string]bool{}
	note := func(in map[string]map[string]bool, e history.Event) {
		if in[nameOf(e)] == nil {
			in[nameOf(e)] = map[string]bool{}
		}
		in[nameOf(e)][e.ID] = true
	}
	for _, e := range events {
		note(armed, e)
		if e.Phase == history.OK {
			note(hit, e)
		}
	}
	var counts []FaultCount
	for name, ids := range armed {
		counts = append(counts, FaultCount{Name: name, Armed: len(ids), Hit: len(hit[name])})
	}
	slices.SortFunc(counts, func(a, b FaultCount) int { return cmp.Compare(a.Name, b.Name) })
	return counts
}
