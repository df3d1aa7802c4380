package checker

import (
	"fmt"
	"strings"
	"time"

	"meterline/command"
	"meterline/testkit/history"
)

// live is rule 9.
func (j *judge) live() {
	states := map[string]map[string]*operationRow{}
	for i := range j.record.operations {
		o := &j.record.operations[i]
		if states[o.command] == nil {
			states[o.command] = map[string]*operationRow{}
		}
		states[o.command][o.device] = o
	}
	for _, c := range j.record.commands {
		h, held := j.record.hashes[c.id]
		if !held {
			continue
		}
		if h.version != c.version || h.counts["total"] != c.total {
			j.violate(9, "live state", c.id, fmt.Sprintf("version %d of %d operations, the record has %d of %d", h.version, h.counts["total"], c.version, c.total))
		}
		for state, n := range c.counts {
			if h.counts[state] != n {
				j.violate(9, "live state", c.id, fmt.Sprintf("%d %s, the record has %d", h.counts[state], state, n))
			}
		}
		for device, o := range states[c.id] {
			if has := h.states[device]; has.State != o.state || has.Version != o.version {
				j.violate(9, "live state", o.String(), fmt.Sprintf("%s, version %d; the record has %s, %d", has.State, has.Version, o.state, o.version))
			}
		}
		if len(h.states) != len(states[c.id]) {
			j.violate(9, "live state", c.id, fmt.Sprintf("%d operations, the record has %d", len(h.states), len(states[c.id])))
		}
	}
	for device, items := range j.record.latest {
		for item, value := range items {
			if k, some := j.newest[device][item]; some && k.value != value {
				j.violate(9, "newest reading", device+" "+item, value+", the record has "+k.value)
			}
		}
		if len(items) != len(j.newest[device]) {
			j.violate(9, "newest reading", device, fmt.Sprintf("%d items, the record has %d", len(items), len(j.newest[device])))
		}
	}
}

// tenants is rule 10.
func (j *judge) tenants() {
	for _, e := range j.model.calls {
		for _, leak := range e.Call.Leaks {
			j.violate(10, "leak", e.Actor, "an answer holds "+leak, e.Line)
		}
		if e.Kind == history.Probe && e.ID == "foreign" && e.Call.Status > 0 && e.Call.Status != 404 && e.Call.Status != 429 && e.Call.Status < 500 {
			j.violate(10, "leak", e.Actor, fmt.Sprintf("%s answered %d", e.Call.Path, e.Call.Status), e.Line)
		}
	}
	for _, s := range j.record.strays {
		j.violate(10, "tenant", s, "is stored under another tenant than what it is about")
	}
}

// letters is rule 11, for what is no good.
func (j *judge) letters() {
	j.DeadLetters = len(j.record.letters)
	byEndpoint := map[string][]letterRow{}
	unexplained := map[string]letterRow{}
	buried := map[opKey]int{}
	for _, l := range j.record.letters {
		if l.source == command.LetterOperation {
			buried[opKey{l.command, l.device}]++
			continue
		}
		byEndpoint[l.endpoint] = append(byEndpoint[l.endpoint], l)
		unexplained[l.id] = l
	}
	wanted, foreign := map[eventKey]int{}, map[eventKey]int{}
	for _, u := range j.model.uplinks {
		switch u.intent {
		case history.Poison, history.UnknownCommand:
			found := false
			for _, l := range byEndpoint[u.endpoint] {
				if strings.Contains(string(l.payload), u.id) || u.intent == history.UnknownCommand && l.command == u.about[0].command {
					delete(unexplained, l.id)
					found = true
				}
			}
			if u.acked && !found {
				j.lose(u, "no dead letter of this "+string(u.intent))
			}
		case history.Foreign:
			k := eventKey{endpoint: u.endpoint, device: u.devices[0], kind: command.EventSecurity}
			foreign[k]++
			if u.acked && !j.model.flushedAfter(u.ackT) {
				wanted[k]++
			}
		}
	}
	for _, l := range unexplained {
		j.violate(11, "dead letter", l.id, "nobody sent what it holds: "+l.cause+" of "+l.endpoint)
	}
	j.security(wanted, foreign)
	for i := range j.record.operations {
		o := &j.record.operations[i]
		if n := buried[o.opKey]; (o.state == "dead") != (n == 1) || n > 1 {
			j.violate(11, "dead letter", o.String(), fmt.Sprintf("%d dead letters of an operation that is %s", n, o.state))
		}
	}
}

// makesWay is how long an older session may last, with a second for the machine that everything runs on.
const makesWay = 3 * time.Second

// twins is rule 12, but for the time while something is broken.
func (j *judge) twins() {
	for _, t := range j.model.twins {
		over := t.at + makesWay
		if t.gone >= 0 && t.gone <= over || j.broken(t.at-makesWay, over) || t.gone < 0 && over > j.model.last {
			continue
		}
		lasted := "to the end"
		if t.gone >= 0 {
			lasted = (t.gone - t.at).String() + " longer"
		}
		j.violate(12, "old session", t.endpoint, "its older session lasted "+lasted, t.old, t.line)
	}
}

// broken says whether a fault was at work between two moments.
func (j *judge) broken(from, to time.Duration) bool {
	for _, f := range j.model.faults {
		until := to
		for _, h := range j.model.heals {
			if h.ID == f.ID {
				until = h.T
			}
		}
		if f.T <= to && until >= from {
			return true
		}
	}
	return false
}

func (j *judge) security(wanted, foreign map[eventKey]int) {
	there := map[eventKey]int{}
	for _, e := range j.record.events {
		if e.kind == command.EventSecurity && e.device != e.endpoint { // gateways tell of an endpoint itself
			there[eventKey{endpoint: e.endpoint, device: e.device, kind: e.kind}]++
		}
	}
	for k, n := range wanted {
		if there[k] < n {
			j.Lost += n - there[k]
			j.violate(11, "security event", k.endpoint, fmt.Sprintf("spoke for %s %d times and is noted %d times", k.device, n, there[k]))
		}
	}
	for k, n := range there {
		if n > foreign[k] {
			j.violate(11, "security event", k.endpoint, fmt.Sprintf("%d about %s, of %d", n, k.device, foreign[k]))
		}
	}
}
