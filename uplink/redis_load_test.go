package uplink_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/testkit"
	"meterline/uplink"
)

// load is appenders that send again what was not acknowledged, one to a partition, and who reads it all.
type load struct {
	t    *testing.T
	log  *uplink.Redis
	stop func() // returns when the appenders have ended

	failed  atomic.Int64
	longest atomic.Int64   // without an acknowledgement
	told    []atomic.Int64 // of each appender: everything below was acknowledged

	// one goroutine only
	at   []command.LogPosition
	seen map[string]bool
}

func startLoad(t *testing.T, log *uplink.Redis, partitions int) *load {
	t.Helper()
	l := &load{t: t, log: log, told: make([]atomic.Int64, partitions), seen: map[string]bool{}}
	ctx, stop := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for p := range partitions {
		l.at = append(l.at, command.LogPosition{Partition: p})
		work.Go(func() { l.append(ctx, p) })
	}
	l.stop = func() { stop(); work.Wait() }
	t.Cleanup(l.stop)
	return l
}

func (l *load) append(ctx context.Context, partition int) {
	for last := time.Now(); ctx.Err() == nil; {
		within, stop := context.WithTimeout(ctx, 3*time.Second)
		err := l.log.Append(within, []command.Uplink{entry(partition, fmt.Sprint("e-", partition), name(partition, l.told[partition].Load()))})
		stop()
		if err != nil {
			l.failed.Add(1)
			continue // not acknowledged: sent again
		}
		for now := int64(time.Since(last)); ; {
			if most := l.longest.Load(); now <= most || l.longest.CompareAndSwap(most, now) {
				break
			}
		}
		last = time.Now()
		l.told[partition].Add(1)
	}
}

func name(partition int, n int64) string { return fmt.Sprintf("%d/%d", partition, n) }

func (l *load) read() {
	within, stop := context.WithTimeout(l.t.Context(), time.Second)
	defer stop()
	batches, err := l.log.Read(within, l.at, 500)
	if err != nil {
		return // there is no master for a while
	}
	for i, b := range batches {
		l.at[i] = b.LogPosition
		for _, u := range b.Entries {
			l.seen[string(u.Payload)] = true
		}
	}
}

// further waits until every appender has had so many more acknowledged.
func (l *load) further(n int64, within time.Duration, what string) {
	l.t.Helper()
	want := make([]int64, len(l.told))
	for p := range l.told {
		want[p] = l.told[p].Load() + n
	}
	testkit.Eventually(l.t, within, func() bool {
		l.read()
		for p := range l.told {
			if l.told[p].Load() < want[p] {
				return false
			}
		}
		return true
	}, what)
}

// nothingLost ends the load and reads all that was acknowledged.
func (l *load) nothingLost() {
	l.t.Helper()
	l.stop()
	l.t.Logf("nothing was acknowledged for %s", time.Duration(l.longest.Load()))
	if l.failed.Load() == 0 {
		l.t.Error("nobody noticed the failover: the test shows nothing")
	}
	testkit.Eventually(l.t, waitMost, func() error {
		l.read()
		for p := range l.told {
			for i := range l.told[p].Load() {
				if !l.seen[name(p, i)] {
					return fmt.Errorf("%s was acknowledged and never read", name(p, i))
				}
			}
		}
		return nil
	}, "all that was acknowledged")
}

// With a replica to wait for, the loss of the master under load loses nothing that was acknowledged, and everybody goes on.
func TestRedisFailoverUnderLoad(t *testing.T) {
	g := testkit.RedisSentinel(t, 2, "--min-replicas-to-write", "1", "--min-replicas-max-lag", "5")
	log := uplink.NewRedis(bySentinel(t, g), uplink.Options{Replicas: 1})
	run(t, log)
	l := startLoad(t, log, 4)
	l.further(50, 2*waitMost, "load")
	lost := g.Master()
	lost.Kill()
	g.Failover(lost)
	l.further(50, 2*waitMost, "appends after the failover")
	l.nothingLost()
}

// The same with one master of a Cluster. Its only replica takes over and has none to wait for: its partitions go on when the
// old master is back.
func TestRedisClusterFailoverUnderLoad(t *testing.T) {
	const partitions = 16 // on all masters
	g := testkit.RedisReplicatedCluster(t, 1)
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: slices.Clone(g.Addrs[:2]), // it becomes the client's own
		DialTimeout: 2 * time.Second, ReadTimeout: 3 * time.Second, WriteTimeout: 3 * time.Second, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = c.Close() })
	log := uplink.NewRedis(c, uplink.Options{Replicas: 1})
	run(t, log)
	l := startLoad(t, log, partitions)
	l.further(20, 2*waitMost, "load")
	lost := g.Master(stream)
	lost.Kill()
	g.Failover(stream, lost)
	lost.Start()
	l.further(20, 2*waitMost, "appends after the failover")
	l.nothingLost()
}
