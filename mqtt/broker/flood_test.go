package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/mqtt/door"
	"meterline/testkit"
)

// from dials with an address of one's own out of 127.0.0.0/8.
func from(local, address string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: waitMost}
	return d.Dial("tcp", address)
}

// flood opens connections from an address without end, a quarter of them with a CONNECT that comes a byte at a time.
// Those that are closed are replaced; it holds at most so many.
func flood(ctx context.Context, local, address string, hold int) (opened int) {
	open := make([]net.Conn, 0, hold)
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	connect := []byte{0x10, 0x10, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 4, 'e', 'v', 'i'}
	for ctx.Err() == nil {
		if len(open) == hold { // the oldest first: it has been closed, or it is about to be
			_ = open[0].Close()
			open = open[1:]
		}
		c, err := from(local, address)
		if err != nil {
			continue
		}
		opened++
		open = append(open, c)
		if opened%4 == 0 {
			_, _ = c.Write(connect[:1])
			slow := open[len(open)/2]
			_, _ = slow.Write(connect[1:2])
		}
	}
	return opened
}

// Idle sockets and slow CONNECTs come from eight addresses, faster than they are timed out; a good device connects from
// a ninth all the while, again and again.
func TestAGoodDeviceGetsInDuringAFlood(t *testing.T) {
	r := start(t, func(o *Options) { o.Unadmitted, o.UnadmittedPerAddress = 400, 50 })
	ctx, stop := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	var mu sync.Mutex
	opened := 0
	for i := 2; i <= 9; i++ {
		attackers.Go(func() {
			n := flood(ctx, fmt.Sprintf("127.0.0.%d", i), r.Addr("mqtt"), 200)
			mu.Lock()
			defer mu.Unlock()
			opened += n
		})
	}
	defer attackers.Wait()
	defer stop()
	r.awaitMetric(t, 1, "clients_refused_total", "reason", "full") // every place is taken
	var took []time.Duration
	pulse := testkit.StartPulse(t)
	for began := time.Now(); time.Since(began) < 3*time.Second; {
		at := time.Now()
		c := r.connect(t, dev("d1"))
		took = append(took, time.Since(at))
		_ = c.conn.Close()
	}
	unadmitted := r.metric(t, "connections_unadmitted")
	stop()
	attackers.Wait()
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("%d attacks, %d good connects: median %v, p99 %v, most %v; pulse %v", opened, len(took), took[len(took)/2], p99, took[len(took)-1],
		pulse.Longest())
	if took[len(took)-1] > pulse.Limit(time.Second) {
		t.Errorf("a good device took %v to connect", took[len(took)-1])
	}
	if unadmitted > 400 {
		t.Errorf("%v connections that are not admitted", unadmitted)
	}
	if opened < 400 {
		t.Errorf("only %d attacks: nothing was tested", opened)
	}
}

// crowd connects so many devices at once from one address, and says how long it took until all were in.
func (r *rig) crowd(t *testing.T, n int) time.Duration {
	t.Helper()
	var devices sync.WaitGroup
	began := time.Now()
	for i := range n {
		devices.Go(func() {
			h := hi{id: fmt.Sprintf("d1:%d", i), user: "d1", pass: "d1"}
			prompt, err := r.come(h)
			for err != nil && !prompt && time.Since(began) < waitMost {
				prompt, err = r.come(h)
			}
			if err != nil {
				t.Errorf("device %d: %v", i, err)
			}
		})
	}
	devices.Wait()
	return time.Since(began)
}

// come connects, and leaves when it is admitted. It is not prompt when the machine made it say CONNECT so late that it may
// be taken for one of the idle sockets.
func (r *rig) come(h hi) (prompt bool, err error) {
	began := time.Now()
	conn, err := net.Dial("tcp", r.Addr("mqtt"))
	if err != nil {
		return true, err
	}
	defer func() { _ = conn.Close() }()
	c := speaker(nil, conn, h)
	err = c.trySend(h.packet())
	prompt = time.Since(began) < 500*time.Millisecond
	if err != nil {
		return prompt, err
	}
	pk, err := c.read(waitMost)
	if err == nil && (pk.FixedHeader.Type != packets.Connack || pk.ReasonCode != 0) {
		err = fmt.Errorf("refused: %#x", pk.ReasonCode)
	}
	return prompt, err
}

// Behind one address many good devices come back at once, while others only hold sockets open there.
func TestACrowdBehindOneAddressIsLetIn(t *testing.T) {
	r := start(t, func(o *Options) { o.Unadmitted, o.UnadmittedPerAddress = 2000, 20 })
	pulse := testkit.StartPulse(t)
	alone := r.crowd(t, 500)
	var idle []net.Conn
	for range 100 {
		c, err := net.Dial("tcp", r.Addr("mqtt"))
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	among := r.crowd(t, 500)
	t.Logf("500 devices are in after %v, without idle sockets after %v", among, alone)
	if among > max(pulse.Limit(4*time.Second), 3*alone) {
		t.Errorf("500 devices took %v, without idle sockets %v", among, alone)
	}
	eventually(t, "the idle sockets are closed for the newcomers", func() bool {
		c, err := net.Dial("tcp", r.Addr("mqtt"))
		if err == nil {
			idle = append(idle, c)
		}
		return r.metric(t, "clients_refused_total", "reason", "crowd") > 80
	})
}

// Handshakes are what costs the gateway most. Eight addresses do them without end, each eight at once; a device that is in
// and one that comes in go on. How long a handshake takes is the machine's affair; but one that comes alone from
// its address has its turn before the eight of another address have had theirs. They are so many for the difference to be
// greater than what a busy machine adds to both.
func TestAHandshakeFloodStarvesNobody(t *testing.T) {
	r := startTLS(t, plainTLS)
	ctx, stop := context.WithCancel(t.Context())
	var attackers sync.WaitGroup
	defer attackers.Wait()
	defer stop()
	var mu sync.Mutex
	var shakes []time.Duration // of the attackers
	for i := 2; i <= 9; i++ {
		for range 8 {
			attackers.Go(func() {
				for ctx.Err() == nil {
					at := time.Now()
					if c, err := from(fmt.Sprintf("127.0.0.%d", i), r.Addr("mqtts")); err == nil {
						secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
						if secure.HandshakeContext(ctx) == nil {
							mu.Lock()
							shakes = append(shakes, time.Since(at))
							mu.Unlock()
						}
						_ = c.Close()
					}
				}
			})
		}
	}
	eventually(t, "the flood is there", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(shakes) > 100
	})
	pulse := testkit.StartPulse(t)
	inside := r.connect(t, dev("d2"))
	var connects, pings []time.Duration
	for began := time.Now(); time.Since(began) < 2*time.Second || len(connects) < 8; {
		at := time.Now()
		c := r.shakeAndSay(t)
		connects = append(connects, time.Since(at))
		_ = c.conn.Close()
		at = time.Now()
		inside.ping()
		pings = append(pings, time.Since(at))
	}
	stop()
	attackers.Wait()
	for _, took := range [][]time.Duration{connects, pings, shakes} {
		slices.Sort(took)
	}
	median, most := func(d []time.Duration) time.Duration { return d[len(d)/2] }, func(d []time.Duration) time.Duration { return d[len(d)-1] }
	t.Logf("%d handshakes of attackers: median %v, most %v; %d connects: median %v, most %v; pings: median %v, most %v; pulse %v",
		len(shakes), median(shakes), most(shakes), len(connects), median(connects), most(connects), median(pings), most(pings), pulse.Longest())
	if median(connects) > median(shakes)+pulse.Longest() { // of a few connects, any may have met a moment when the machine stood still
		t.Errorf("a good device took %v to connect, attackers %v for a handshake", median(connects), median(shakes))
	}
	if most(connects) > max(pulse.Limit(time.Second), 2*most(shakes)) {
		t.Errorf("a good device took %v to connect", most(connects))
	}
	if most(pings) > pulse.Limit(time.Second) {
		t.Errorf("one that was in waited %v", most(pings))
	}
}

// The drain does not wait for those who say nothing, wherever in their handshakes they are.
func TestTheDrainDoesNotWaitForSilentClients(t *testing.T) {
	r := startTLS(t, plainTLS)
	for _, name := range []string{"mqtt", "mqtts"} {
		for range 10 {
			c, err := net.Dial("tcp", r.Addr(name))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
		}
	}
	r.awaitMetric(t, 20, "connections_unadmitted")
	pulse, began := testkit.StartPulse(t), time.Now()
	r.shutdown(t)
	if took := time.Since(began); took > min(pulse.Limit(door.ConnectTimeout/2), door.ConnectTimeout*9/10) {
		t.Errorf("the drain took %v", took)
	}
	if open := r.metric(t, "connections"); open != 0 {
		t.Errorf("%v connections are left", open)
	}
}
