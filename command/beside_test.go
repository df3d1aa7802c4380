package command_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// desk is a world in which nothing goes wrong, with one worker that takes uplinks one by one, each beside other work.
type desk struct {
	*world
	*testing.T
	worker *command.Worker
	after  func() bool // when a transaction was committed and the worker does not know yet; true: that was the one
}

func onDesk(t *testing.T, play func(*desk)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(1, newCoverage(), false)
		w.calm, w.backends = true, w.backends[:1]
		d := &desk{world: w, T: t, worker: w.backends[0].worker}
		d.small(1)
		e := w.point("d1")
		e.disconnect()
		e.connect(w.gateways[0])
		d.rounds(5)
		play(d)
	})
}

// small makes so many uplinks a backlog, and one that can wait large.
func (d *desk) small(read int) {
	d.worker.Small(read, 0, func(hurry func(), change func() (command.Committed, error)) (command.Committed, error) {
		done, err := change()
		if d.after != nil && d.after() {
			d.after = nil
			hurry()
		}
		return done, err
	})
}

func (d *desk) rounds(n int) {
	d.Helper()
	for range n {
		if _, err := d.worker.Round(context.Background()); err != nil {
			d.Fatal(err)
		}
		d.sleep(10 * time.Millisecond)
	}
}

// listen lets what was told arrive.
func (d *desk) listen() {
	for range 5 {
		for d.happen() {
		}
		d.sleep(5 * time.Millisecond)
	}
}

// issue issues a real-time read of d1.
func (d *desk) issue() *command.Operation {
	d.Helper()
	seconds, priority := 60, command.RealtimePriority
	r := command.Request{Kind: command.MeterRead, Items: []string{"1-0:1.8.0"}, TimeoutS: &seconds, Priority: &priority}
	r.Targets.DeviceIDs = []command.DeviceID{"d1"}
	v, _, err := d.service.Issue(context.Background(), command.Actor{Token: user}, r, command.Idempotency{})
	if err != nil {
		d.Fatal(err)
	}
	return d.ledger.Operation(command.Key{CommandID: v.ID, DeviceID: "d1"})
}

// sent issues a real-time read of d1 and answers with its operation once it is on its way.
func (d *desk) sent() *command.Operation {
	d.Helper()
	k := d.issue().Key()
	for range 20 {
		for d.happen() {
		}
		d.rounds(1)
		if o := d.ledger.Operation(k); o.State == command.Sent {
			d.later = nil // the test answers itself
			return o
		}
	}
	d.Fatal("it is not sent")
	return nil
}

// uplinks appends what d1 says to the log.
func (d *desk) uplinks(kind command.UplinkKind, payloads ...string) {
	e := d.point("d1")
	for _, p := range payloads {
		_ = d.log.Append(context.Background(), []command.Uplink{{Partition: fleet.Partition(e.id, partitions), Endpoint: e.id, Epoch: e.epoch,
			Gateway: e.gateway.name(), Kind: kind, Payload: []byte(p)}})
	}
}

func result(o *command.Operation, more string) string {
	return fmt.Sprintf(`{"v":1,"message_id":"x","results":[{"command_id":"%s","device_id":"d1",%s}]}`, o.CommandID, more)
}

func reading(value int) string {
	return fmt.Sprintf(`"readings":[{"item":"1-0:1.8.0","value":"%d","unit":"kWh","read_at":"2026-01-01T00:00:0%dZ"}]`, value, value)
}

const hello = `{"v":1,"message_id":"h","type":"hello","data":{}}`

// What a large transaction did to an operation is old when what was done beside it has moved the operation on.
func TestWhatIsDoneBesideALargeTransactionIsNewer(t *testing.T) {
	t.Parallel()
	onDesk(t, func(d *desk) {
		o := d.sent()
		d.small(2)
		d.uplinks(command.UplinkEvent, hello, hello)
		d.uplinks(command.UplinkDelivered, o.MessageID)
		d.uplinks(command.UplinkEvent, hello, hello)
		d.rounds(1)
		d.after = func() bool {
			d.uplinks(command.UplinkResult, result(o, `"status":"error","final":true,"code":"BUS_TIMEOUT"`))
			return true
		}
		d.rounds(1)
		if o := d.ledger.Operation(o.Key()); o.State != command.Failed || len(o.Moves) != 4 {
			t.Fatalf("it is %s after %v", o.State, o.Moves)
		}
		if _, flying := d.worker.Holds(); len(flying) > 0 {
			t.Errorf("the worker takes %v for in flight", flying)
		}
		if o := d.sent(); o.State != command.Sent {
			t.Errorf("the next is %s", o.State)
		}
	})
}

// What was taken in ahead of a backlog is passed over in its turn.
func TestAnAnswerThatOvertookABacklogIsPassedOver(t *testing.T) {
	t.Parallel()
	onDesk(t, func(d *desk) {
		o := d.sent()
		d.uplinks(command.UplinkEvent, hello, hello, hello)
		d.rounds(1) // there is more than one batch
		d.uplinks(command.UplinkResult, result(o, reading(1)+`,"status":"ok","final":true`))
		d.rounds(1)
		if n := d.worker.Overtaken(); n != 1 || d.ledger.Operation(o.Key()).State != command.Succeeded {
			t.Fatalf("%d answers have overtaken the backlog, it is %s", n, d.ledger.Operation(o.Key()).State)
		}
		before := d.ledger.Operation(o.Key())
		d.rounds(5)
		if n := d.worker.Overtaken(); n != 0 {
			t.Errorf("%d are still to be passed over", n)
		}
		if o := d.ledger.Operation(o.Key()); o.Version != before.Version || len(o.Readings) != 1 {
			t.Errorf("it has version %d and %d readings, had version %d", o.Version, len(o.Readings), before.Version)
		}
		if o := d.sent(); o.State != command.Sent {
			t.Errorf("the next is %s", o.State)
		}
	})
}

// A large transaction may put an operation in flight again: until that is known its meter is asked for nothing else.
func TestNothingIsSentToWhatALargeTransactionTouches(t *testing.T) {
	t.Parallel()
	onDesk(t, func(d *desk) {
		o := d.sent()
		e := d.point("d1")
		d.uplinks(command.UplinkUndeliverable, o.MessageID)
		d.rounds(3)
		if o := d.ledger.Operation(o.Key()); o.State != command.Queued {
			t.Fatalf("it is %s", o.State)
		}
		e.disconnect()
		e.connect(d.gateways[0])
		d.listen()
		d.rounds(3)
		d.later = nil
		d.uplinks(command.UplinkEvent, hello)
		d.uplinks(command.UplinkAck, fmt.Sprintf(`{"v":1,"message_id":"a","command_id":"%s","device_ids":["d1"],"status":"accepted"}`, o.CommandID))
		d.uplinks(command.UplinkEvent, hello)
		var other *command.Operation
		d.after = func() bool {
			if d.ledger.Operation(o.Key()).State == command.Queued {
				return false
			}
			other = d.issue()
			d.listen()
			return true
		}
		d.rounds(3)
		if other == nil {
			t.Fatal("it was not put in flight again")
		}
		if o, other := d.ledger.Operation(o.Key()), d.ledger.Operation(other.Key()); !o.State.InFlight() || other.State != command.Queued {
			t.Errorf("one is %s and the other %s", o.State, other.State)
		}
		d.uplinks(command.UplinkResult, result(o, `"status":"error","final":true,"code":"BUS_TIMEOUT"`))
		d.rounds(5)
		if other := d.ledger.Operation(other.Key()); other.State != command.Sent {
			t.Errorf("when the one has ended the other is %s", other.State)
		}
	})
}

// An answer that has overtaken a backlog changes nothing when a new owner meets it in its turn.
func TestAnOvertakenAnswerIsNoLateOne(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string][]string{
		"in parts, good":     {`"status":"ok","final":false,` + reading(1), `"status":"ok","final":true,` + reading(2)},
		"in parts, then not": {`"status":"ok","final":false,` + reading(1), `"status":"error","final":true,"code":"BUS_TIMEOUT"`},
		"not understood":     {`"status":"ok","final":true,"readings":[{"item":"1-0:1.8.0","value":"x","unit":"kWh","read_at":"2026-01-01T00:00:01Z"}]`},
		"bad":                {`"status":"error","final":true,"code":"BUS_TIMEOUT"`},
	} {
		t.Run(name, func(t *testing.T) {
			onDesk(t, func(d *desk) {
				o := d.sent()
				d.uplinks(command.UplinkEvent, hello, hello, hello, hello)
				d.rounds(1)
				for _, a := range answer {
					d.uplinks(command.UplinkResult, result(o, a))
				}
				d.rounds(1)
				early := *d.ledger.Operation(o.Key())
				if early.State.Open() {
					t.Fatalf("it is %s", early.State)
				}
				d.worker.ForgetOvertaken()
				d.rounds(10)
				if n := len(d.log.Unread(d.ledger.Position(fleet.Partition("d1", partitions)))); n > 0 {
					t.Fatalf("%d are not taken over", n)
				}
				if o := d.ledger.Operation(o.Key()); !o.LateResultAt.IsZero() || o.Version != early.Version {
					t.Errorf("version %d became %d, and a late result is noted at %s", early.Version, o.Version, o.LateResultAt)
				}
			})
		})
	}
}

// Whoever is asked for real-time work alone may have other work, also when nothing was sent to it yet.
func TestUrgentWorkThatIsGoneHidesNoOther(t *testing.T) {
	t.Parallel()
	onDesk(t, func(d *desk) {
		seconds, priority, urgent := 60, 3, command.RealtimePriority
		r := command.Request{Kind: command.MeterRead, Items: []string{"1-0:1.8.0"}, TimeoutS: &seconds, Priority: &urgent}
		r.Targets.DeviceIDs = []command.DeviceID{"d1"}
		gone, _, err := d.service.Issue(context.Background(), command.Actor{Token: user}, r, command.Idempotency{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.service.Cancel(context.Background(), command.Actor{Token: user}, gone.ID); err != nil {
			t.Fatal(err)
		}
		r.Priority = &priority
		v, _, err := d.service.Issue(context.Background(), command.Actor{Token: user}, r, command.Idempotency{})
		if err != nil {
			t.Fatal(err)
		}
		d.listen()
		d.rounds(3)
		if o := d.ledger.Operation(command.Key{CommandID: v.ID, DeviceID: "d1"}); o.State == command.Queued {
			t.Error("it is not sent")
		}
	})
}
