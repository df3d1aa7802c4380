package plain

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// Whatever the interleaving, one connection is left, and it works.
func TestSimultaneousConnectsOfOneKey(t *testing.T) {
	for round := range 50 {
		r := newRig(t, Options{})
		const connections = 8
		wires := make([]*wire, connections)
		sessions := make([]*Session, connections)
		var all sync.WaitGroup
		for i := range connections {
			wires[i] = &wire{}
			all.Go(func() {
				s, _ := r.Connect(wires[i], Connect{Key: "c", Version: 5, Clean: i%2 == 0, SessionExpiry: 100, Who: i})
				sessions[i] = s
				s.Start()
				_ = s.Packet(packets.Packet{
					FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1, Filters: packets.Subscriptions{{Filter: "t"}},
				})
				if i%4 == 0 {
					s.End(false)
				}
			})
		}
		all.Wait()
		st := r.registry.find("c")
		live := 0
		for i, w := range wires {
			if len(w.stopped) == 0 && i%4 != 0 {
				live++
				if st.conn != sessions[i] {
					t.Errorf("round %d: a zombie", round)
				}
			}
			if len(w.stopped) > 1 {
				t.Errorf("round %d: stopped %d times", round, len(w.stopped))
			}
		}
		if live > 1 {
			t.Errorf("round %d: %d live connections", round, live)
		}
		for _, s := range sessions {
			s.End(false)
		}
		r.v5("c").drop()
		r.empty()
	}
}

// Publishers, subscribers that come and go, members of groups, all at once: nobody that stays misses anything, and at the
// end the books are at zero.
func TestEverythingAtOnce(t *testing.T) {
	r := newRig(t, Options{})
	const publishers, each = 4, 500
	type steady struct {
		*client
		got atomic.Int64
	}
	stays := &steady{client: r.v5("stays")}
	stays.subscribe("t/#", 1)
	stays.refuse = func(pk packets.Packet) error {
		if pk.FixedHeader.Type == packets.Publish {
			stays.got.Add(1)
		}
		return nil
	}
	var publishing, others sync.WaitGroup
	done := make(chan struct{})
	for i := range publishers {
		publishing.Go(func() {
			c := r.v5(fmt.Sprint("p", i))
			for n := range each {
				c.publish(fmt.Sprintf("t/%d", n%7), "x", byte(n%3), retain)
			}
			c.drop()
		})
	}
	others.Go(func() { // acknowledges
		for {
			pk, ok := stays.take()
			select {
			case <-done:
				if !ok {
					return
				}
			default:
			}
			if ok && pk.FixedHeader.Qos > 0 {
				stays.do(ack(packets.Puback, pk.PacketID))
			}
		}
	})
	for i := range 4 {
		others.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				c := r.resume5(fmt.Sprint("c", i/2)) // two of each key
				for _, filter := range []string{"t/+", "#", "$share/g/t/#", "$share/h/+/1"} {
					_ = c.s.Packet(packets.Packet{
						FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
						Filters: packets.Subscriptions{{Filter: filter, Qos: byte(n % 3)}},
					})
				}
				if n%2 == 0 {
					_ = c.s.Packet(packets.Packet{
						FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 1,
						Filters: packets.Subscriptions{{Filter: "t/+"}, {Filter: "$share/g/t/#"}},
					})
				}
				for range 20 {
					if pk, ok := c.take(); ok {
						_ = c.s.Packet(ack(packets.Puback, pk.PacketID))
						_ = c.s.Packet(ack(packets.Pubrec, pk.PacketID))
					}
				}
				c.s.End(n%3 == 0)
			}
		})
	}
	publishing.Wait()
	close(done)
	others.Wait()
	if got := stays.got.Load(); got != publishers*each {
		t.Errorf("the one that stays got %d of %d", got, publishers*each)
	}
	stays.drop()
	for i := range 2 {
		r.v5(fmt.Sprint("c", i)).drop()
	}
	r.empty()
}

// A message that waits in a group because all windows are full goes on with the next acknowledgement, also with the very
// last one.
func TestNothingIsStuckInAGroup(t *testing.T) {
	r := newRig(t, Options{})
	const rounds = 3000
	var acknowledged atomic.Int64
	sent := make(chan struct{}, 1)
	hello := Connect{Key: "c", Version: 5, ReceiveMaximum: 1}
	w := &wire{}
	c := r.link(w, hello)
	c.subscribe("$share/g/t", 1)
	w.refuse = func(packets.Packet) error {
		select {
		case sent <- struct{}{}:
		default:
		}
		return nil
	}
	var acking sync.WaitGroup
	acking.Go(func() {
		for acknowledged.Load() < 2*rounds {
			select {
			case <-sent:
			case <-t.Context().Done():
				return
			case <-time.After(time.Minute):
				return
			}
			for pk, ok := c.take(); ok; pk, ok = c.take() {
				_ = c.s.Packet(ack(packets.Puback, pk.PacketID))
				acknowledged.Add(1)
			}
		}
	})
	for i := range rounds { // the second of each pair has to wait for the first
		for begun := time.Now(); acknowledged.Load() < int64(2*i); runtime.Gosched() {
			if time.Since(begun) > time.Minute { // what is stuck stays so
				t.Fatalf("round %d: a message is stuck", i)
			}
		}
		r.send("t", 1, 0, 2)
	}
	acking.Wait()
	if n := acknowledged.Load(); n != 2*rounds {
		t.Errorf("%d of %d acknowledged", n, 2*rounds)
	}
}

// Members of a group come, acknowledge some and vanish; as one of them stays a member, nothing is lost.
func TestSharedLosesNothingWhileMembersComeAndGo(t *testing.T) {
	r := newRig(t, Options{})
	const messages = 3000
	var acknowledged sync.Map
	member := func(c *client, most int) {
		for range most {
			pk, ok := c.take()
			if !ok {
				return
			}
			if pk.FixedHeader.Type == packets.Publish && c.s.Packet(ack(packets.Puback, pk.PacketID)) == nil {
				acknowledged.Store(string(pk.Payload), true)
			}
		}
	}
	stays := r.resume5("stays")
	stays.subscribe("$share/g/t", 1)
	stays.drop()
	var all sync.WaitGroup
	done := make(chan struct{})
	for i := range 3 {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				var c *client
				switch {
				case i == 0:
					c = r.resume5("stays")
				case n%2 == 0:
					c = r.v5(fmt.Sprint(i))
				default:
					c = r.resume5(fmt.Sprint(i))
				}
				_ = c.s.Packet(packets.Packet{
					FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 1,
					Filters: packets.Subscriptions{{Filter: "$share/g/t", Qos: 1}},
				})
				member(c, 30)
				c.drop()
			}
		})
	}
	r.send("t", 1, 0, messages)
	close(done)
	all.Wait()
	stays = r.resume5("stays")
	for i := 1; i <= 2; i++ {
		r.v5(fmt.Sprint(i)).drop()
	}
	member(stays, 10*messages)
	for i := range messages {
		if _, ok := acknowledged.Load(fmt.Sprint(i)); !ok {
			t.Fatalf("message %d is lost", i)
		}
	}
	r.v5("stays").drop()
	r.empty()
}
