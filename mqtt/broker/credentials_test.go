package broker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"meterline/fleet"
)

// stalling is a source that does not answer while it is away.
type stalling struct {
	memCredentials
	away chan struct{} // closed: it is back
}

func newStalling() *stalling {
	return &stalling{memCredentials{known: map[fleet.DeviceID]fleet.Credential{}}, make(chan struct{})}
}

func (s *stalling) Credentials(ctx context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error) {
	select {
	case <-s.away:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return s.memCredentials.Credentials(ctx, ids)
}

// desk is an admission without a broker around it.
type desk struct {
	*admission
	t testing.TB
}

// newDesk serves until the end of the test, from credentials of n devices d0, d1, … that were cached an hour ago.
func newDesk(t testing.TB, source Credentials, n int) desk {
	t.Helper()
	m := newMetrics(nil)
	c := newCredentials(source, m)
	c.timeout = waitMost // a source that is to answer nothing yet must not be given up meanwhile
	for i := range n {
		id := fleet.DeviceID(fmt.Sprint("d", i))
		c.known[id] = known{device(id, "t1", fleet.Direct), time.Now().Add(-time.Hour)}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { c.run(ctx) })
	t.Cleanup(func() { cancel(); all.Wait() })
	o := Options{BanAfter: 10, FlapLimit: 15}
	return desk{&admission{
		credentials: c, tokens: newTokens(nil, m), bans: newBans(o, m, newSparing(o.Logger)), flapping: newFlapping(o, nil, m), pepper: pepper, metrics: m,
	}, t}
}

func says(id, secret string) hello {
	return hello{clientID: id, username: id, password: []byte(secret), remote: "192.0.2.1:1000"}
}

func TestCachedDevicesComeInWhileTheSourceIsAway(t *testing.T) {
	const n = 10_000
	for name, source := range map[string]Credentials{
		"it fails":           &memCredentials{err: errors.New("away")},
		"it does not answer": newStalling(),
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t, source, n)
			for i := range n {
				id := fmt.Sprint("d", i)
				if _, err := d.admit(t.Context(), says(id, id)); err != nil {
					t.Fatalf("%s: %v", id, err)
				}
			}
			var waited dto.Metric // whoever waits for a look-up is counted as a miss
			if err := d.metrics.credentials.WithLabelValues("miss").Write(&waited); err != nil || waited.GetCounter().GetValue() != 0 {
				t.Errorf("%v waited: %v", waited.GetCounter().GetValue(), err)
			}
		})
	}
}

func TestWhileTheSourceIsAwayNobodyLearnsWhoExists(t *testing.T) {
	d := newDesk(t, &memCredentials{err: errors.New("away")}, 1)
	for _, h := range []hello{says("d0", "wrong"), says("nobody", "wrong"), says("nobody", "again"), says("d0", "again")} {
		_, err := d.admit(t.Context(), h)
		if code, _ := refusal(err); code.Code != 0x88 {
			t.Errorf("%s is answered %#x: %v", h.username, code.Code, err)
		}
	}
}

// While a source does not answer, one client finds that out, and the others are told at once.
func TestOneClientTriesASourceThatIsAway(t *testing.T) {
	source := newStalling()
	d := newDesk(t, source, 0)
	c := d.credentials
	now := time.Now()
	setClock(&c.mu, &c.now, now)
	c.failed(errors.New("away"))
	if _, err := c.ask(t.Context(), "d1"); !errors.Is(err, errAway) {
		t.Errorf("a moment after it failed: %v", err)
	}
	setClock(&c.mu, &c.now, now.Add(credentialsPause))
	trial, _, err := c.begin("d1")
	if trial == nil || err != nil {
		t.Fatalf("nobody tries: %v", err)
	}
	if _, err := c.ask(t.Context(), "d2"); !errors.Is(err, errAway) {
		t.Errorf("while another tries: %v", err)
	}
	source.set(device("d2", "t1", fleet.Direct))
	close(source.away)
	<-trial.done
	if cred, err := c.ask(t.Context(), "d2"); err != nil || cred == nil {
		t.Errorf("when it is back: %v, %v", cred, err)
	}
}

// recorder notes what a source is asked for.
type recorder struct {
	*memCredentials
	mu    sync.Mutex
	asked []fleet.DeviceID
}

func (r *recorder) Credentials(ctx context.Context, ids []fleet.DeviceID) ([]fleet.Credential, error) {
	r.mu.Lock()
	r.asked = append(r.asked, ids...)
	r.mu.Unlock()
	return r.memCredentials.Credentials(ctx, ids)
}

func (r *recorder) take() []fleet.DeviceID {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = nil
	return asked
}

// An unknown device, a known one that is connected, one that has never been here and one that is disabled cost the source
// the same, attempt by attempt, and are answered with the same bytes.
func TestUnknownDeviceAndWrongSecretCostTheSame(t *testing.T) {
	source := &recorder{}
	r := start(t, func(o *Options) {
		source.memCredentials = o.Credentials.(*memCredentials)
		o.Credentials = source
	})
	r.listening(t, dev("d1"))
	source.take()
	now := time.Now()
	attempts := map[string][]int{}
	for _, wait := range []time.Duration{0, 0, 0, 2 * credentialsDoubt, 0, 2 * credentialsFresh, 0} {
		now = now.Add(wait)
		setClock(&r.creds0().mu, &r.creds0().now, now)
		for _, id := range []string{"nobody", "d1", "d2", "off1", "meter1"} {
			for _, version := range []byte{4, 5} {
				c := r.dial(t, hi{id: id, user: id, pass: "wrong", version: version})
				if want := map[byte]byte{4: 5, 5: 0x86}[version]; c.connack.ReasonCode != want || c.connack.Properties.ReasonString != r.wrongReason(t, version) {
					t.Errorf("%s is answered %#x %q", id, c.connack.ReasonCode, c.connack.Properties.ReasonString)
				}
				c.closed()
				attempts[id] = append(attempts[id], len(source.take()))
			}
		}
	}
	for id, calls := range attempts {
		if !slices.Equal(calls, attempts["nobody"]) {
			t.Errorf("%s costs %v look-ups, one that is not there %v", id, calls, attempts["nobody"])
		}
	}
	if n := attempts["nobody"]; n[0] != 1 || n[1] != 0 || n[6] != 1 {
		t.Errorf("look-ups: %v", n)
	}
}

// creds0 is the broker's cache, which the rig's source hides.
func (r *rig) creds0() *credentials { return r.Broker.creds }

// wrongReason is what MQTT 5 clients are told of a wrong secret.
func (r *rig) wrongReason(t testing.TB, version byte) string {
	t.Helper()
	if version == 4 {
		return ""
	}
	c := r.dial(t, hi{id: "x", nobody: true, version: 5})
	_ = c.conn.Close()
	return c.connack.Properties.ReasonString
}

// Neither is answered before the source was.
func TestBothWaitForTheSource(t *testing.T) {
	source := newStalling()
	source.set(device("d1", "t1", fleet.Direct))
	r := start(t, func(o *Options) { o.Credentials = source })
	k := r.creds0()
	k.mu.Lock()
	k.keep("d1", device("d1", "t1", fleet.Direct))
	k.mu.Unlock()
	known, unknown := r.knock(t, dev("d1").with("wrong")), r.knock(t, dev("nobody").with("wrong"))
	eventually(t, "both wait", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return len(k.loading) == 2
	})
	close(source.away)
	for _, c := range []*client{known, unknown} {
		if pk, err := c.read(waitMost); err != nil || pk.ReasonCode != 5 {
			t.Errorf("%v %#x", err, pk.ReasonCode)
		}
	}
}

func TestWhatWasFoundBehindClosesTheSession(t *testing.T) {
	r := start(t)
	old := r.listening(t, dev("d1"))
	stays := r.listening(t, dev("d2"))
	k := device("d1", "t1", fleet.Direct)
	k.MAC = pepper.MAC("new")
	r.creds.set(k)
	setClock(&r.creds0().mu, &r.creds0().now, time.Now().Add(credentialsFresh))
	side := r.knock(t, hi{id: "d1:side", user: "d1", pass: "d1"}) // by what is cached; and then it is asked for
	side.closed()
	old.closed()
	stays.ping()
	r.answered(t, 5, dev("d1"))
	r.answered(t, 0, dev("d1").with("new"))
}

func TestTheCacheIsBoundedAndUnknownIdsDoNotFillIt(t *testing.T) {
	r := start(t)
	c := r.creds0()
	c.mu.Lock()
	c.most, c.doubted.most = 3, 3
	c.mu.Unlock()
	for i := 1; i <= 9; i++ {
		r.answered(t, 0, dev(fmt.Sprint("d", i)))
		r.answered(t, 5, dev(fmt.Sprint("nobody", i)))
	}
	if n := r.metric(t, "credentials_cached"); n != 3 {
		t.Errorf("%v cached", n)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.known {
		if _, ok := r.creds.known[id]; !ok {
			t.Errorf("%s is cached", id)
		}
	}
	if n := len(c.doubted.entries); n > 3 {
		t.Errorf("%d doubted", n)
	}
}

func TestTooManyLookupsAreRefused(t *testing.T) {
	source := newStalling()
	d := newDesk(t, source, 0)
	waiting := 0
	for i := range credentialsWaiting + 2*credentialsBatch { // some are on their way
		l, _, err := d.credentials.begin(fleet.DeviceID(fmt.Sprint("u", i)))
		if errors.Is(err, errBusy) {
			break
		}
		if l != nil {
			waiting++
		}
	}
	_, err := d.admit(t.Context(), says("nobody", "x"))
	if code, reason := refusal(err); code.Code != 0x88 || reason != "busy" || waiting < credentialsWaiting {
		t.Errorf("with %d waiting: %v", waiting, err)
	}
}

// BenchmarkAdmitCached is a device that comes back: what it costs while the source answers and while it is away.
func BenchmarkAdmitCached(b *testing.B) {
	const n = 100_000
	for name, err := range map[string]error{"source answers": nil, "source away": errors.New("away")} {
		b.Run(name, func(b *testing.B) {
			source := &memCredentials{known: map[fleet.DeviceID]fleet.Credential{}, err: err}
			for i := range n {
				source.set(device(fleet.DeviceID(fmt.Sprint("d", i)), "t1", fleet.Direct))
			}
			d := newDesk(b, source, n)
			hellos := make([]hello, n)
			for i := range hellos {
				id := fmt.Sprint("d", i)
				hellos[i] = says(id, id)
			}
			d.flapping.limit = b.N/n + 1
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if _, err := d.admit(b.Context(), hellos[i%n]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
