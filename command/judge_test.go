package command

import (
	"fmt"
	"log/slog"
	"testing"
	"time"
)

// judged lets one answer of an endpoint be judged, appended and read at these times, and gives the operation as it is then.
func judged(t *testing.T, o *Operation, endpoint DeviceID, appended, now time.Time) *Operation {
	t.Helper()
	u := Uplink{Endpoint: endpoint, Kind: UplinkResult, AppendedAt: appended, Payload: fmt.Appendf(nil, `{"v":1,"results":[{"command_id":"%s","device_id":"%s","status":"ok",
		"final":true,"readings":[{"item":"1-0:1.8.0","value":"1","unit":"kWh","read_at":"2026-03-01T12:00:00Z"}]}]}`, o.CommandID, o.DeviceID)}
	facts := factsOf(u)
	tx := &Tx{Now: now, Operations: map[Key]*Operation{o.Key(): o}}
	j := judge{tx: tx, runTimeout: ForAll(time.Minute)}
	j.take(0, facts[0])
	if len(tx.Readings) != 1 {
		t.Fatalf("%d readings are kept, dead letters: %+v", len(tx.Readings), tx.DeadLetters)
	}
	return o
}

// sentBetween is an operation that was sent to ipc-1, and then, since its device has moved, to ipc-2.
func sentBetween() *Operation {
	o := Born(testCommand(), testCandidate(), testNow)
	at := testNow
	for _, to := range []DeviceID{"ipc-1", "ipc-2"} {
		o.EndpointID = to
		o.must(o.Claim(at, Session{Endpoint: to, Gateway: "gw", Epoch: 1}, "message to "+string(to), time.Minute))
		if to == "ipc-1" {
			o.must(o.Requeue(at, at, true, "no answer"))
		}
	}
	return o
}

func TestAnAnswerWasThereBeforeItWasRead(t *testing.T) {
	t.Parallel()
	o := sentBetween()
	judged(t, o, "ipc-2", o.ExpiresAt.Add(20*time.Millisecond), o.ExpiresAt.Add(-20*time.Millisecond))
	if o.State != Succeeded {
		t.Errorf("an answer that is read before the deadline makes it %s", o.State)
	}
}

func TestALateAnswerEndsWhatIsWithItsSenderAlone(t *testing.T) {
	t.Parallel()
	o := sentBetween()
	judged(t, o, "ipc-1", o.ExpiresAt.Add(time.Second), o.ExpiresAt.Add(2*time.Second))
	if o.State != Sent {
		t.Errorf("a late answer of the endpoint before makes it %s: the one that has it now may have answered in time", o.State)
	}
	judged(t, o, "ipc-2", o.ExpiresAt.Add(time.Second), o.ExpiresAt.Add(2*time.Second))
	if o.State != Expired || o.LateResultAt.IsZero() {
		t.Errorf("a late answer of its endpoint makes it %s", o.State)
	}
}

func TestAnEndpointThatWasLeftBeginsNothing(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[DeviceID]State{"ipc-1": Sent, "ipc-2": Accepted} {
		o := sentBetween()
		j := judge{tx: &Tx{Now: testNow, Operations: map[Key]*Operation{o.Key(): o}}, runTimeout: ForAll(time.Minute)}
		j.take(0, factsOf(Uplink{Endpoint: endpoint, Kind: UplinkAck, AppendedAt: testNow,
			Payload: fmt.Appendf(nil, `{"v":1,"command_id":"%s","device_ids":["%s"],"status":"accepted"}`, o.CommandID, o.DeviceID)})[0])
		if o.State != want {
			t.Errorf("an ack of %s makes it %s", endpoint, o.State)
		}
	}
}

// From its deadline on an operation stays in its partition, whose owner ends it: another's may have been swept already.
func TestHintsMoveNothingThatIsDue(t *testing.T) {
	t.Parallel()
	for _, u := range []Uplink{{Kind: UplinkUndeliverable, Payload: []byte("message to ipc-2")}, {Kind: UplinkDisconnected, Epoch: 1}} {
		for after, want := range map[time.Duration]State{-time.Second: Queued, 0: Sent} {
			o := sentBetween()
			u.Endpoint, u.Gateway = "ipc-2", o.Gateway
			f := fact{Uplink: u, keys: []Key{o.Key()}}
			j := judge{tx: &Tx{Now: o.ExpiresAt.Add(after), Operations: map[Key]*Operation{o.Key(): o}}, runTimeout: ForAll(time.Minute)}
			j.take(0, f)
			if o.State != want {
				t.Errorf("%s %v after the deadline makes it %s", u.Kind, after, o.State)
			}
		}
	}
}

// What is taken back and begun elsewhere in one transaction is in flight there, and not where it was.
func TestAFlightMovesWithItsOperation(t *testing.T) {
	t.Parallel()
	w := NewWorker(WorkerOptions{Logger: slog.New(slog.DiscardHandler), Partition: func(DeviceID) int { return 0 }})
	w.fence[0] = 1
	o := sentBetween()
	w.takeOff(w.at("ipc-1"), o, testNow.Add(time.Second))
	o.State = Accepted
	o.LeaseUntil = testNow.Add(time.Minute)
	w.settleOne(o)
	if at := w.flying[o.Key()]; at == nil || at.id != "ipc-2" || len(w.endpoints["ipc-1"].flights) != 0 {
		t.Fatalf("in flight at %+v", at)
	}
	if lease := w.messages[o.MessageID].lease; !lease.Equal(o.LeaseUntil) {
		t.Errorf("its lease is %v, want %v", lease, o.LeaseUntil)
	}
}
