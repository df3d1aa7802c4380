package uplink_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
	"meterline/uplink"
)

// What it costs to wait for a replica: the same master and replica each time, and the replica follows in any case.
func BenchmarkRedisAppendReplicated(b *testing.B) {
	g := testkit.RedisSentinel(b, 1)
	c := client(b, "redis://"+g.Servers[0].Addr)
	for _, size := range []int{1, 100, 500} {
		for _, replicas := range []int{0, 1} {
			b.Run(fmt.Sprintf("%d/replicas=%d", size, replicas), func(b *testing.B) {
				ok(b, c.FlushAll(b.Context()).Err())
				log := uplink.NewRedis(c, uplink.Options{Limit: 1 << 40, Replicas: replicas})
				batch := make([]command.Uplink, size)
				for i := range batch {
					batch[i] = entry(i%16, fmt.Sprintf("e-%d", i), strings.Repeat("x", 200))
				}
				for b.Loop() {
					ok(b, log.Append(b.Context(), batch))
				}
				b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "entries/s")
				ok(b, c.Do(b.Context(), "WAIT", 1, (10*time.Second).Milliseconds()).Err())
			})
		}
	}
}
