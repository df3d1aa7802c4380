package checker

import (
	"fmt"
	"slices"
	"time"

	"meterline/command"
)

// operations is rule 5, 7 and 8, and what rule 2 says of ends.
func (j *judge) operations() {
	counts := map[string]map[string]int{}
	deadlines := map[opKey]time.Time{}
	shownExpired := map[string]bool{}
	for _, c := range j.record.commands {
		counts[c.id] = map[string]int{}
		shownExpired[c.id] = c.shownExpired
	}
	for i := range j.record.operations {
		o := &j.record.operations[i]
		j.Operations++
		deadlines[o.opKey] = o.expires
		if of := counts[o.command]; of != nil {
			of[o.state]++
		} else {
			j.violate(5, "no command", o.String(), "an operation of a command that is not there")
		}
		j.moves(o)
		j.end(o, shownExpired[o.command])
		j.device(o)
		if s := j.model.seen[o.opKey]; s != nil {
			j.AskedAgain += s.asksAgain
		}
	}
	for _, c := range j.record.commands {
		j.counts(c, counts[c.id])
	}
	for _, e := range j.model.executions {
		if d, known := deadlines[e.opKey]; known && e.at.After(d.Add(time.Second)) {
			j.violate(8, "done after the deadline", e.opKey.String(), e.at.Sub(d).String()+" after it", e.line)
		}
	}
}

const movesMost = 64 // more are not kept

// moves: the states in their order, each a legal step, each with a version of its own.
func (j *judge) moves(o *operationRow) {
	if len(o.moves) == 0 || o.moves[0].State != string(command.Queued) {
		j.violate(5, "moves", o.String(), "do not begin as queued")
		return
	}
	ends := 0
	for i, m := range o.moves {
		if terminal(m.State) {
			ends++
		}
		if i > 0 && len(o.moves) < movesMost && !command.State(o.moves[i-1].State).CanBecome(command.State(m.State)) {
			j.violate(5, "moves", o.String(), o.moves[i-1].State+" became "+m.State)
		}
		if m.State == string(command.Sent) && m.At.After(o.expires.Add(-2*time.Second)) {
			j.violate(8, "sent too late", o.String(), fmt.Sprintf("%s before its deadline", o.expires.Sub(m.At)))
		}
	}
	if ends > 1 {
		j.TwoEnds++
	}
	if last := o.moves[len(o.moves)-1].State; last != o.state {
		j.violate(5, "moves", o.String(), "the last is "+last+", the state "+o.state)
	}
	want := int64(len(o.moves))
	if o.late {
		want++
	}
	if len(o.moves) < movesMost && o.version != want {
		j.violate(5, "versions", o.String(), fmt.Sprintf("version %d after %d steps", o.version, want))
	}
}

// end: there is one, it is the one that was shown, and somebody gave cause for it.
func (j *judge) end(o *operationRow, shownExpired bool) {
	if o.open || !terminal(o.state) {
		j.Endless++
		j.violate(5, "without end", o.String(), fmt.Sprintf("%s, %s after its deadline", o.state, j.record.now.Sub(o.expires)))
		return
	}
	j.shown(o)
	a := j.model.answers[o.opKey]
	switch {
	case o.state == "succeeded" && !o.fromStock && (a == nil || a.ok == nil):
		j.violate(2, "not sent", o.String(), "succeeded without an answer that says so")
	case o.state == "failed" && (a == nil || a.codes[o.code] == nil):
		j.violate(2, "not sent", o.String(), "failed with "+o.code+", which no answer says")
	case o.state == "cancelled" && j.model.cancels[o.command] == "":
		j.violate(2, "not sent", o.String(), "cancelled, and nobody asked for it")
	case o.state == "expired" && !shownExpired:
		j.answered(o, a)
	}
	if a != nil && a.late != nil && !o.late && !j.model.flushedAfter(a.late.ackT) {
		j.violate(5, "late answer", o.String(), "came after the end and is not noted", a.late.lines()...)
	}
}

// shown: no poll showed another end.
func (j *judge) shown(o *operationRow) {
	e := j.model.endings[o.opKey]
	switch {
	case e == nil:
	case e.other != "":
		j.TwoEnds++
		j.violate(5, "two ends", o.String(), "shown as "+e.state+" and then as "+e.other, e.line, e.at)
	case e.state != o.state:
		j.TwoEnds++
		j.violate(5, "two ends", o.String(), "shown as "+e.state+", stored as "+o.state, e.line)
	}
}

// answered: an operation that expired, before anybody was told so, had no answer in the log by then.
func (j *judge) answered(o *operationRow, a *answers) {
	if a == nil || a.acked == nil || !a.ackedAt.Before(o.expires) || j.model.flushedAfter(a.acked.ackT) {
		return
	}
	j.violate(5, "answered and expired", o.String(), "its answer was acknowledged "+o.expires.Sub(a.ackedAt).String()+" before the deadline",
		a.acked.lines()...)
}

// device is rule 7.
func (j *judge) device(o *operationRow) {
	s := j.model.seen[o.opKey]
	if o.state == "succeeded" && !o.fromStock && (s == nil || s.executed == "") {
		j.violate(7, "never done", o.String(), "succeeded, and the device never did it")
	}
	delivered := slices.ContainsFunc(o.moves, func(m move) bool { return m.State == string(command.Delivered) })
	if delivered && (s == nil || !s.taken) {
		j.violate(7, "never taken", o.String(), "delivered, and its endpoint did not acknowledge it")
	}
	if o.delivery == string(command.NeverSent) && s != nil && s.received != "" {
		j.violate(7, "received", o.String(), "never_sent, and its endpoint received it", s.received)
	}
}

// counts: what a command says of its operations is what they say.
func (j *judge) counts(c commandRow, of map[string]int) {
	total := 0
	for state, n := range of {
		total += n
		if state != string(command.Queued) && c.counts[state] != n {
			j.violate(5, "counts", c.id, fmt.Sprintf("%d %s by its own account, %d by its operations'", c.counts[state], state, n))
		}
	}
	for state, n := range c.counts {
		if n != 0 && of[state] == 0 {
			j.violate(5, "counts", c.id, fmt.Sprintf("%d %s by its own account, 0 by its operations'", n, state))
		}
	}
	if total != c.total {
		j.violate(5, "counts", c.id, fmt.Sprintf("%d operations of %d", total, c.total))
	}
	if c.running || !c.finished {
		j.violate(5, "command without end", c.id, "still running")
	}
	if was := j.model.polls[c.id]; was != nil && was.status != statusOf(of) {
		j.violate(5, "two ends", c.id, "shown as "+was.status+", stored as "+statusOf(of), was.line)
	}
}

// statusOf is what operations add up to.
func statusOf(of map[string]int) string {
	var c command.Counts
	for state, n := range of {
		*c.Of(command.State(state)) += n
		c.Total += n
	}
	return string(c.Status())
}

// order is rule 6. Which of two commands is the older one is known only where one was accepted before the other was asked
// for.
func (j *judge) order() {
	type queue struct {
		device   string
		priority int
	}
	type first struct {
		o  *operationRow
		at time.Time
		by *asked
	}
	queues := map[queue][]first{}
	for i := range j.record.operations {
		o := &j.record.operations[i]
		n := slices.IndexFunc(o.moves, func(m move) bool { return m.State == string(command.Sent) })
		by := j.model.commands[o.command]
		if n >= 0 && by != nil {
			q := queue{o.device, o.priority}
			queues[q] = append(queues[q], first{o, o.moves[n].At, by})
		}
	}
	for _, firsts := range queues {
		slices.SortFunc(firsts, func(a, b first) int { return a.at.Compare(b.at) })
		var youngest first // of those sent so far
		for _, f := range firsts {
			if youngest.o != nil && f.by.okT < youngest.by.invokeT && f.at.After(youngest.at) {
				j.violate(6, "order", f.o.String(), "first sent after "+youngest.o.command+", which was asked for later", f.by.line, youngest.by.invoked)
			}
			if youngest.o == nil || f.by.invokeT > youngest.by.invokeT {
				youngest = f
			}
		}
	}
}
