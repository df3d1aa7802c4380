package broker

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/fleet"
	"meterline/state"
	"meterline/testkit"
)

// gateways are two with one presence and one log.
type gateways struct {
	one, two *rig
	log      *memLog
	flush    func()
	newest   func(fleet.DeviceID) command.Session
}

// eachPresence runs a test on two gateways, with presence in memory and in Redis.
func eachPresence(t *testing.T, test func(*testing.T, *gateways)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		shared := newMemSessions()
		p := startPair(t, shared)
		shared.await(t, "two watchers", func() bool { return len(shared.watchers) == 2 })
		p.flush = shared.flush
		p.newest = func(id fleet.DeviceID) command.Session {
			shared.mu.Lock()
			defer shared.mu.Unlock()
			return shared.newest[id]
		}
		test(t, p)
	})
	t.Run("redis", func(t *testing.T) {
		client := redis.NewClient(&redis.Options{Addr: testkit.RedisPrivate(t).Addr})
		t.Cleanup(func() { _ = client.Close() })
		shared := state.NewRedis(client)
		p := startPair(t, shared)
		p.flush = func() {
			if err := client.FlushAll(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
		}
		p.newest = func(id fleet.DeviceID) command.Session {
			found, err := shared.Sessions(t.Context(), []fleet.DeviceID{id})
			if err != nil {
				t.Fatal(err)
			}
			return found[id]
		}
		test(t, p)
	})
}

func startPair(t *testing.T, shared Sessions) *gateways {
	t.Helper()
	p := &gateways{log: newMemLog()}
	gateway := func(n int) func(*Options) {
		return func(o *Options) {
			o.Gateway = command.Gateway{ID: fmt.Sprint("gw", n), Incarnation: fmt.Sprint("i", n)}
			o.Sessions, o.Log = shared, p.log
		}
	}
	p.one, p.two = start(t, gateway(1)), start(t, gateway(2))
	return p
}

// gateway is one of the two, in turn.
func (p *gateways) gateway(n int) *rig { return []*rig{p.one, p.two}[n%2] }

// connectedEpochs are the epochs with which an endpoint said that it is connected, each once, in their order.
func (p *gateways) connectedEpochs(t *testing.T, id fleet.DeviceID, n int) (epochs []int64) {
	t.Helper()
	p.log.await(t, fmt.Sprint(n, " epochs"), func(all []command.Uplink) bool {
		epochs = nil
		seen := map[int64]bool{}
		for _, u := range all {
			if u.Kind == command.UplinkConnected && u.Endpoint == id && !seen[u.Epoch] {
				seen[u.Epoch] = true
				epochs = append(epochs, u.Epoch)
			}
		}
		return len(epochs) >= n
	})
	return epochs
}

func TestTheNewestWinsOnTwoGateways(t *testing.T) {
	eachPresence(t, func(t *testing.T, p *gateways) {
		old := p.gateway(0).listening(t, dev("d1").v5())
		for n := 1; n < 6; n++ {
			if n == 3 {
				p.flush()
			}
			pulse, began := testkit.StartPulse(t), time.Now()
			p.connectedEpochs(t, "d1", n) // so that the log has them in their order
			young := p.gateway(n).listening(t, dev("d1").v5())
			before := old.closed()
			if took := time.Since(began); took > pulse.Limit(2*time.Second) {
				t.Errorf("the old session lasted %v", took)
			}
			if len(before) != 1 || before[0].ReasonCode != packets.ErrSessionTakenOver.Code {
				t.Errorf("the old one is told %+v", before)
			}
			young.ping()
			old = young
		}
		epochs := p.connectedEpochs(t, "d1", 6)
		for i := 1; i < len(epochs); i++ {
			if epochs[i] <= epochs[i-1] {
				t.Errorf("epochs %v", epochs)
			}
		}
		eventually(t, "presence holds the newest", func() bool {
			s := p.newest("d1")
			return s.Gateway == "gw2" && s.Epoch == epochs[5]
		})
	})
}

// What the old session sent and was acknowledged counts, although a newer one is elsewhere; what its gateway says of its
// end is about that session only, and leaves the newer one's presence alone.
func TestTheOldSessionChangesNothingAndItsResultsCount(t *testing.T) {
	eachPresence(t, func(t *testing.T, p *gateways) {
		old := p.one.listening(t, dev("d1"))
		p.connectedEpochs(t, "d1", 1)
		entered, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		p.log.onAppend(func(ctx context.Context, entries []command.Uplink) error {
			for _, e := range entries {
				if e.Kind == command.UplinkResult {
					once.Do(func() {
						close(entered)
						<-release
					})
				}
			}
			return nil
		})
		old.publish("meterline/v1/d1/up/result", "late", 1, 9)
		<-entered // it is on its way into the log when the newer one comes
		young := p.two.listening(t, dev("d1"))
		close(release)
		acknowledged := false
		for _, pk := range old.closed() {
			acknowledged = acknowledged || pk.FixedHeader.Type == packets.Puback && pk.PacketID == 9
		}
		p.log.awaitKind(t, command.UplinkDisconnected, 1)
		results := p.log.awaitKind(t, command.UplinkResult, 1)
		if len(results) != 1 || string(results[0].Payload) != "late" {
			t.Errorf("%d results, acknowledged %v", len(results), acknowledged)
		}
		epochs := p.connectedEpochs(t, "d1", 2)
		for _, u := range p.log.all() {
			if u.Kind == command.UplinkDisconnected && u.Epoch != epochs[0] {
				t.Errorf("disconnected with epoch %d, of %v", u.Epoch, epochs)
			}
		}
		eventually(t, "presence holds the newer", func() bool { // at once, unless it was away for a moment
			s := p.newest("d1")
			return s.Gateway == "gw2" && s.Epoch == epochs[1]
		})
		young.ping()
	})
}

func TestSimultaneousConnectsOnTwoGatewaysLeaveOne(t *testing.T) {
	eachPresence(t, func(t *testing.T, p *gateways) {
		for range 10 {
			clients := make([]*client, 6)
			for i := range clients {
				clients[i] = p.gateway(i).knock(t, dev("d1"))
			}
			var answered sync.WaitGroup
			for _, c := range clients {
				answered.Go(func() { _, _ = c.read(waitMost) })
			}
			answered.Wait()
			// All but one are closed, and the one that is not is the one that presence holds.
			var closed, pongs atomic.Int32
			var reading sync.WaitGroup
			var newest atomic.Value
			for _, c := range clients {
				reading.Go(func() {
					for {
						pk, err := c.read(waitMost)
						if err != nil {
							closed.Add(1)
							return
						}
						if pk.FixedHeader.Type == packets.Pingresp {
							newest.Store(c.conn.RemoteAddr().String())
							pongs.Add(1) // after it: whoever has counted it looks there
						}
					}
				})
			}
			eventually(t, "all but one are closed", func() bool { return closed.Load() == 5 })
			for _, c := range clients {
				_ = c.trySend(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
			}
			eventually(t, "one answers", func() bool { return pongs.Load() == 1 })
			at := map[string]string{"gw1": p.one.Addr("mqtt"), "gw2": p.two.Addr("mqtt")}
			eventually(t, fmt.Sprint("presence says that one is left at ", newest.Load()), func() bool { // at once, unless it was away for a moment
				return at[p.newest("d1").Gateway] == newest.Load()
			})
			for _, c := range clients {
				_ = c.conn.Close()
			}
			reading.Wait()
		}
	})
}

// The gateways that were cut off from presence, each with a session of the same endpoint, agree on one when it is back.
func TestTwoSessionsWithoutPresenceBecomeOne(t *testing.T) {
	shared := newMemSessions()
	p := startPair(t, deafSessions{shared})
	shared.fail(context.DeadlineExceeded)
	clients := []*client{p.one.listening(t, dev("d1")), p.two.listening(t, dev("d1"))}
	clients[0].ping()
	clients[1].ping()
	shared.fail(nil)
	clients[0].closed()
	clients[1].ping()
}
