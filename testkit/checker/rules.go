package checker

import (
	"context"
	"fmt"
	"math/big"
	"time"

	"meterline/command"
	"meterline/testkit/history"
)

// The rules. Numbers in violations are these.
//
//	 1  every acknowledged uplink is in the record, once
//	 2  nothing is there that was not sent
//	 3  counts and sums over readings equal the model's
//	 4  every accepted command exists, once per idempotency key
//	 5  every operation has one end, versions 1..n without a hole, and no poll showed an end and then another
//	 6  per device and priority, first sends are in the order of the commands
//	 7  succeeded: the device did it; never_sent: it never received it
//	 8  nothing is done after its deadline, nor sent with less than 2 s left
//	 9  what the live state holds at rest is what the record says
//	10  no tenant sees anything of another's
//	11  what was handed in is stored, a dead letter, a security event, or still at the device; /metrics agrees
//	12  the newest session of an endpoint ends the one before it, within 2 s

// judge compares a model with a record.
type judge struct {
	*Report
	model  *model
	record *record
	grace  time.Duration
	stored map[readingKey]bool // true: late
	newest map[string]map[string]readingKey
	sums   map[string]*sumOf
}

type sumOf struct {
	n     int
	total *big.Rat
}

// judge fills in the report. It changes neither model nor record.
func (r *Report) judge(ctx context.Context, m *model, rec *record, grace time.Duration) error {
	j := &judge{Report: r, model: m, record: rec, grace: grace, stored: make(map[readingKey]bool, len(m.readings)),
		newest: map[string]map[string]readingKey{}, sums: map[string]*sumOf{}}
	for row, err := range rec.readings(ctx) {
		if err != nil {
			return err
		}
		j.reading(row)
	}
	j.uplinks()
	j.aggregates()
	j.posts()
	j.operations()
	j.order()
	j.live()
	j.tenants()
	j.letters()
	j.twins()
	j.summary()
	return nil
}

// reading judges a stored reading: rules 1, 2 and 10.
func (j *judge) reading(r readingRow) {
	j.Stored++
	if r.late {
		j.LateReadings++
	}
	if _, before := j.stored[r.readingKey]; before {
		j.Twice++
		j.violate(1, "stored twice", r.String(), fmt.Sprintf("again as revision %d", r.revision))
		return
	}
	j.stored[r.readingKey] = r.late
	j.add(r)
	was := j.model.readings[r.readingKey]
	if was == nil {
		j.violate(2, "not sent", r.String(), "a reading that nobody handed in, or not with this value")
		return
	}
	if was.unit != r.unit || was.command != r.command {
		j.violate(2, "changed", r.String(), fmt.Sprintf("sent with unit %q for command %q, stored with %q for %q", was.unit, was.command,
			r.unit, r.command), was.by.lines()...)
	}
}

func (j *judge) add(r readingRow) {
	s := j.sums[r.device]
	if s == nil {
		s = &sumOf{total: new(big.Rat)}
		j.sums[r.device] = s
	}
	s.n++
	if v, ok := new(big.Rat).SetString(r.value); ok {
		s.total.Add(s.total, v)
	}
	of := j.newest[r.device]
	if of == nil {
		of = map[string]readingKey{}
		j.newest[r.device] = of
	}
	if had, some := of[r.item]; !some || had.at <= r.at { // in order of revisions
		of[r.item] = r.readingKey
	}
}

// lose counts what was acknowledged and is not there.
func (j *judge) lose(u *uplink, what string) {
	if j.model.flushedAfter(u.ackT) {
		j.FlushLosses++
		return
	}
	j.Lost++
	j.violate(1, "lost", u.id+" of "+u.endpoint, what, u.lines()...)
}

// uplinks is rule 1, and the part of rule 11 that says where the rest is.
func (j *judge) uplinks() {
	for _, u := range j.model.uplinks {
		j.Uplinks++
		if u.acked {
			j.AckedUplinks++
		}
	}
	j.reported()
	for k, s := range j.model.readings {
		j.Readings++
		late, there := j.stored[k]
		switch {
		case s.by.acked:
			j.AckedReadings++
			if !there {
				j.lose(s.by, "not stored: "+k.String())
			}
		case !there:
			j.AtDevice++
		}
		if there && s.by.intent == history.AfterEnd && !late {
			j.violate(5, "not late", k.String(), "handed in after the end of its operation, and not marked late", s.by.lines()...)
		}
	}
}

// reported is rules 1 and 2 for events.
func (j *judge) reported() {
	events, sent := map[eventKey]int{}, map[eventKey]bool{}
	for _, e := range j.record.events {
		events[e.eventKey]++
	}
	for _, u := range j.model.uplinks {
		if u.event == nil {
			continue
		}
		sent[*u.event] = true
		switch n := events[*u.event]; {
		case n == 0 && u.acked:
			j.lose(u, "the event "+u.event.kind+" is not stored")
		case n > 1:
			j.Twice++
			j.violate(1, "stored twice", u.id, "the event "+u.event.kind, u.lines()...)
		}
	}
	for _, e := range j.record.events {
		if e.kind != command.EventSecurity && !sent[e.eventKey] {
			j.violate(2, "not sent", e.endpoint+" "+e.kind, "an event that nobody reported")
		}
	}
}

// aggregates is rule 3: the database's own sums, against what its rows were one by one.
func (j *judge) aggregates() {
	devices := map[string]bool{}
	for d := range j.sums {
		devices[d] = true
	}
	for d := range j.record.sums {
		devices[d] = true
	}
	for d := range devices {
		said, ours := j.record.sums[d], j.sums[d]
		if ours == nil {
			ours = &sumOf{total: new(big.Rat)}
		}
		total, ok := new(big.Rat).SetString(said.total)
		if !ok || said.n != ours.n || total.Cmp(ours.total) != 0 {
			j.violate(3, "sums", d, fmt.Sprintf("SQL adds up %d readings to %s, one by one they are %d and %s", said.n, said.total, ours.n,
				ours.total.FloatString(6)))
		}
	}
}

// posts is rule 4.
func (j *judge) posts() {
	commands := map[string]commandRow{}
	for _, c := range j.record.commands {
		commands[c.id] = c
	}
	keyed := map[string]bool{}
	for _, k := range j.record.keys {
		keyed[k.command] = true
		p := j.model.keys[keyName(k.tenant, k.key)]
		switch {
		case p == nil:
			j.violate(2, "not sent", k.key, "an idempotency key that nobody used")
		case p.id != "" && p.id != k.command:
			j.violate(4, "key", k.key, "stands for "+k.command+", and the answer named "+p.id, p.lines...)
		}
	}
	for _, p := range j.model.keys {
		for _, wrong := range p.wrong {
			j.violate(4, "key", p.key, wrong, p.lines...)
		}
		if p.id == "" {
			continue
		}
		c, there := commands[p.id]
		switch {
		case !there:
			j.violate(4, "accepted and not there", p.id, "of key "+p.key, p.line)
		case c.tenant != p.tenant:
			j.violate(10, "tenant", p.id, "asked for by "+p.tenant+", stored of "+c.tenant, p.line)
		}
	}
	for _, c := range j.record.commands {
		j.Commands++
		if !keyed[c.id] && j.model.commands[c.id] == nil {
			j.violate(4, "made twice", c.id, "a command that no idempotency key stands for")
		}
	}
}
