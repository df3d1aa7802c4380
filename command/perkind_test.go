package command

import (
	"log/slog"
	"testing"
	"time"
)

const pingLease = 7 * time.Second

func sentOf(k Kind) *Operation {
	c := testCommand()
	c.Kind = k
	o := Born(c, testCandidate(), testNow)
	o.must(o.Claim(testNow, Session{Endpoint: "ipc-1", Gateway: "g", Incarnation: "i", Epoch: 7}, "message", time.Minute))
	return o
}

func TestBackoffOfAKind(t *testing.T) {
	t.Parallel()
	w := NewWorker(WorkerOptions{RetryAfter: PerKind[[]time.Duration]{Own: map[Kind][]time.Duration{DevicePing: {time.Second, 2 * time.Second}}}})
	for kind, want := range map[Kind][]time.Duration{
		MeterRead:  {5 * time.Second, 15 * time.Second, 45 * time.Second, 2 * time.Minute, 5 * time.Minute, 5 * time.Minute},
		DevicePing: {time.Second, 2 * time.Second, 2 * time.Second},
	} {
		o := sentOf(kind)
		for i, about := range want {
			o.Attempts = i + 1
			got := backoff(o, w.opt.RetryAfter.Of(kind))
			if got < about*8/10 || got > about*12/10 {
				t.Errorf("%s is sent again %v after attempt %d, want %v, give or take a fifth", kind, got, o.Attempts, about)
			}
		}
	}
}

// What is heard of an operation renews its lease for as long as its kind may be silent: in the record, and in memory.
func TestRunTimeoutOfAKind(t *testing.T) {
	t.Parallel()
	for kind, want := range map[Kind]time.Duration{MeterRead: DefaultRunTimeout, DevicePing: pingLease} {
		w := NewWorker(WorkerOptions{
			Logger: slog.New(slog.DiscardHandler), Partition: func(DeviceID) int { return 0 },
			RunTimeout: PerKind[time.Duration]{Own: map[Kind]time.Duration{DevicePing: pingLease}},
		})
		w.fence[0] = 1
		o := sentOf(kind)
		w.takeOff(w.at("ipc-1"), o, o.LeaseUntil)
		puback := fact{Uplink: Uplink{Endpoint: "ipc-1", Kind: UplinkDelivered, Payload: []byte("message"), AppendedAt: testNow}, keys: []Key{o.Key()}}
		j := judge{tx: &Tx{Now: testNow, Operations: map[Key]*Operation{o.Key(): o}}, runTimeout: w.opt.RunTimeout}
		j.take(0, puback)
		w.hear([]fact{puback}, testNow)
		if got := o.LeaseUntil.Sub(testNow); o.State != Delivered || got != want {
			t.Errorf("%s, %s: the record's lease is %v, want %v", kind, o.State, got, want)
		}
		if got := w.messages["message"].lease.Sub(testNow); got != want {
			t.Errorf("%s: the message's lease is %v, want %v", kind, got, want)
		}
	}
}

func TestMaxAttemptsOfAKind(t *testing.T) {
	t.Parallel()
	s := NewService(ServiceOptions{MaxAttempts: PerKind[int]{Own: map[Kind]int{DevicePing: 2}}})
	own := 7
	for _, c := range []struct {
		kind Kind
		says *int
		want int
	}{{MeterRead, nil, DefaultAttempts}, {DevicePing, nil, 2}, {DevicePing, &own, own}} {
		r := Request{Kind: c.kind, Targets: Selector{All: true}, Items: []string{"1-0:1.8.0"}, MaxAttempts: c.says}
		got, _, err := r.command(testNow, s.opt.MaxAttempts)
		if err != nil || got.Attempts != c.want {
			t.Errorf("%s: %d attempts, want %d (%v)", c.kind, got.Attempts, c.want, err)
		}
	}
}
