package command_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// users are those who ask, and what they have been told.
type users struct {
	seen map[command.Key]command.State // ends that were shown
}

// use lets a user issue, cancel or repeat a command.
func (w *world) use() {
	ids := w.ledger.Issued()
	n := w.draw.IntN(10)
	if len(ids) == 0 || n < 7 {
		w.issue()
		return
	}
	id := ids[w.draw.IntN(len(ids))]
	switch n {
	case 7:
		_, err := w.service.Cancel(context.Background(), command.Actor{Token: user}, id)
		w.trace.add("cancel", w.alias(id), short(err))
	case 8: // the backend goes away before it has ended anything
		w.trace.add("cancel, half", w.alias(id), short(w.ledger.Cancel(context.Background(), command.Actor{Token: user}, id)))
	default:
		v, _, err := w.service.Retry(context.Background(), command.Actor{Token: user}, id, command.Idempotency{})
		w.trace.add("retry", w.alias(id), short(err))
		if err == nil {
			w.check.issued(v.ID)
		}
	}
}

func short(err error) string {
	var invalid *command.Invalid
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &invalid):
		return "invalid"
	}
	return err.Error()
}

// alias names a command by the order of its acceptance: its id is another in every run.
func (w *world) alias(id command.ID) string {
	if c := w.ledger.Command(id); c != nil {
		return fmt.Sprint("c", c.Seq)
	}
	return "c?"
}

func (w *world) issue() {
	p := w.profile
	seconds := int((p.shortest + w.upTo(p.longest-p.shortest)) / time.Second)
	priority := []int{3, 5, 5, 5, 8}[w.draw.IntN(5)]
	if p.hurried && w.draw.IntN(2) == 0 {
		priority = 8
	}
	attempts := 1 + w.draw.IntN(3)
	r := command.Request{Kind: command.MeterRead, Items: []string{"1-0:1.8.0"}, TimeoutS: &seconds, Priority: &priority, MaxAttempts: &attempts}
	if w.draw.IntN(8) == 0 {
		at := w.now().Add(w.upTo(6 * time.Second))
		r.NotBefore = &at
	}
	if w.draw.IntN(3) == 0 {
		r.Targets.All = true
	} else {
		all := []meterread.DeviceID{"d1", "m01", "m02", "m03", "n01"}
		for _, i := range w.draw.Perm(len(all))[:1+w.draw.IntN(3)] {
			r.Targets.DeviceIDs = append(r.Targets.DeviceIDs, all[i])
		}
	}
	v, _, err := w.service.Issue(context.Background(), command.Actor{Token: user}, r, command.Idempotency{})
	w.trace.add("issue", w.alias(v.ID), short(err), fmt.Sprint(len(v.Operations), " of priority ", priority, ", ", seconds, " s"))
	if err == nil {
		w.check.issued(v.ID)
	}
}

// poll shows a command to a user.
func (w *world) poll() {
	ids := w.ledger.Issued()
	if len(ids) == 0 {
		return
	}
	id := ids[w.draw.IntN(len(ids))]
	if w.draw.IntN(2) == 0 { // whoever waits looks when it must be over
		if i := slices.IndexFunc(ids, func(id command.ID) bool { c := w.ledger.Command(id); return c.Running() && !c.ExpiresAt.After(w.now()) }); i >= 0 {
			id = ids[i]
		}
	}
	v, err := w.service.Get(context.Background(), user, id)
	w.trace.add("poll", w.alias(id), short(err), string(v.Status))
	if err == nil {
		w.check.shown(v)
	}
}

// reshape moves, disables or enables a device.
func (w *world) reshape() {
	id := []command.DeviceID{"m01", "m01", "m03"}[w.draw.IntN(3)]
	d, _ := w.ledger.Device(id)
	switch {
	case id == "m03":
		d.Enabled = !d.Enabled
	case d.EndpointID == "ipc1":
		d.EndpointID = "ipc2"
	default:
		d.EndpointID = "ipc1"
	}
	w.trace.add(string(id), "is now of", string(d.EndpointID), fmt.Sprint(d.Enabled))
	w.check.reshaped(d)
	touched := w.ledger.PutDevice(d)
	if len(touched) > 0 {
		w.service.Touched(context.Background(), touched)
	}
}
