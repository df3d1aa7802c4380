package broker

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt"
	"meterline/testkit"
)

const (
	fuzzPatience = 3 * time.Second // for any answer, unless the machine is to blame; less than any time-out of the broker's
	fuzzWait     = 30 * time.Second
	fuzzLook     = 500    // executions between two looks at goroutines, connections and memory
	fuzzRenew    = 20_000 // executions of one broker
	fuzzHeap     = 256 << 20
)

// drain empties the log and returns what it held.
func (l *memLog) drain() []command.Uplink {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.entries
	l.entries, l.batches = nil, nil
	return all
}

// holder keeps what the rig registers with a test beyond that test, which is one execution.
type holder struct {
	testing.TB
	cleanups []func()
}

func (h *holder) Cleanup(f func()) { h.cleanups = append(h.cleanups, f) }

func (h *holder) clean() {
	for _, f := range slices.Backward(h.cleanups) {
		f()
	}
	h.cleanups = nil
}

// fuzzWorld is the broker under test and its good device.
type fuzzWorld struct {
	holder     holder
	rig        *rig
	good       *client
	boss       *client
	goroutines int
	runs       int
	pulse      *testkit.Pulse
	before     [][]byte // the last inputs
	panicked   atomic.Pointer[string]
}

// tokensWithoutPanic are the rig's, but for the one that panics.
type tokensWithoutPanic struct{ Tokens }

func (m tokensWithoutPanic) TokenBySecret(ctx context.Context, secret string) (fleet.Token, error) {
	if secret == "panic" {
		return fleet.Token{}, ErrUnknownToken
	}
	return m.Tokens.TokenBySecret(ctx, secret)
}

// begin makes a broker when it is time for one. When the execution fails, those before it are told: they may be to blame.
func (w *fuzzWorld) begin(t *testing.T, input []byte) {
	before := slices.Clone(w.before)
	w.before = append(before[max(0, len(before)-3):], bytes.Clone(input))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("execution %d of this broker; the inputs before it were %q", w.runs%fuzzRenew, before)
		}
	})
	w.holder.TB = t
	if w.runs++; w.rig != nil && w.runs%fuzzRenew != 0 {
		w.pulse.Restart()
		return
	}
	w.end()
	w.holder.TB = t
	w.rig = start(&w.holder, func(o *Options) {
		o.Tokens, o.Anonymous, o.Shards = tokensWithoutPanic{o.Tokens}, AnonymousMQTT, 1
		o.Logger = slog.New(panicWatch{slog.DiscardHandler, w})
	})
	w.pulse = testkit.StartPulse(&w.holder)
	w.good = w.rig.listening(&w.holder, dev("d9"))
	w.boss = w.rig.backend(&w.holder)
	w.goodDevice(t)
	w.rig.log.drain()
	w.goroutines = runtime.NumGoroutine()
}

func (w *fuzzWorld) end() {
	if w.rig == nil {
		return
	}
	w.holder.TB = discardTB{w.holder.TB}
	w.holder.clean()
	w.rig = nil
}

// discardTB is a test that is over: what its cleanups complain about panics.
type discardTB struct{ testing.TB }

func (discardTB) Helper()                           {}
func (discardTB) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (discardTB) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }

// panicWatch is a log that only looks for panics the broker recovered from.
type panicWatch struct {
	slog.Handler
	world *fuzzWorld
}

func (h panicWatch) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelError }

func (h panicWatch) Handle(_ context.Context, r slog.Record) error {
	if !strings.Contains(r.Message, "panic") {
		return nil
	}
	told := r.Message
	r.Attrs(func(a slog.Attr) bool {
		told += "\n" + a.String()
		return true
	})
	h.world.panicked.Store(&told)
	return nil
}

// goodDevice publishes a result and is sent a command, both at QoS 1.
func (w *fuzzWorld) goodDevice(t *testing.T) {
	t.Helper()
	began := time.Now()
	w.good.publish(mqtt.UplinkTopic("d9", mqtt.Result), "good", 1, 7)
	w.boss.publish(mqtt.CommandTopic("d9"), `{"message_id":"good"}`, 1, 8)
	acked, commanded := false, false
	for !acked || !commanded {
		pk, err := w.good.read(fuzzWait)
		if err != nil {
			t.Fatalf("the good device, acknowledged: %v, commanded: %v: %v", acked, commanded, err)
		}
		switch pk.FixedHeader.Type {
		case packets.Puback:
			acked = true
		case packets.Publish:
			commanded = commanded || string(pk.Payload) == `{"message_id":"good"}`
			w.good.puback(pk.PacketID)
		}
	}
	w.boss.expect(packets.Puback)
	if took := time.Since(began); took > w.pulse.Limit(fuzzPatience) {
		t.Fatalf("the good device waited %v", took)
	}
}

// settle waits until the broker has come to the end of all connections but two, those that were reset included, and the log
// holds all that it took from them.
func (w *fuzzWorld) settle(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fuzzWait)
	defer cancel()
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for w.rig.wires.count() > 2 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d connections do not end", w.rig.wires.count()-2)
		}
	}
	if err := w.rig.uplinks.flush(ctx); err != nil {
		t.Fatalf("what was taken is not appended: %v", err)
	}
}

// count is how many connections there are.
func (c *wires) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// look checks that nothing was left behind.
func (w *fuzzWorld) look(t *testing.T) {
	t.Helper()
	if told := w.panicked.Swap(nil); told != nil {
		t.Fatal(*told)
	}
	if w.runs%fuzzLook != 0 {
		return
	}
	if n := w.rig.metric(t, "panics_total"); n != 0 {
		t.Fatalf("%v panics", n)
	}
	eventually(t, "all connections but two are closed", func() bool { return w.rig.metric(t, "connections") == 2 })
	eventually(t, "no goroutine is left behind", func() bool { return runtime.NumGoroutine() <= w.goroutines+2 })
	var m runtime.MemStats
	if runtime.ReadMemStats(&m); m.HeapAlloc > fuzzHeap {
		runtime.GC()
		if runtime.ReadMemStats(&m); m.HeapAlloc > fuzzHeap {
			t.Fatalf("the heap holds %d MiB after %d executions", m.HeapAlloc>>20, w.runs%fuzzRenew)
		}
	}
}

// dialer connects from an address that is this execution's own where there are many: what the broker holds against an
// address must not be held against the executions that follow, and no address runs out of ports.
func (w *fuzzWorld) dialer() *net.Dialer {
	if runtime.GOOS != "linux" {
		return &net.Dialer{}
	}
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(1+w.runs>>16&0x7f), byte(w.runs>>8), byte(w.runs))}}
}
