package store

import (
	"fmt"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// BenchmarkClaimAndCollect takes operations from queued to succeeded with one reading each: found, claimed, and answered
// in transactions of 500, as the worker does it.
func BenchmarkClaimAndCollect(b *testing.B) {
	for name, open := range map[string]func(testing.TB) *DB{"postgres": openPostgres, "sqlite": openSQLite} {
		b.Run(name, func(b *testing.B) {
			const batch = 500
			f := fix(b, open(b))
			devices := f.meters(tenantA, "ipc", "m", batch)
			fence := f.own("w")
			c := want(tenantA, command.Selector{All: true})
			var making, finding, claiming, collecting time.Duration
			n := 0
			for b.Loop() {
				began := time.Now()
				id := f.create(c, time.Hour).Command.ID
				making += time.Since(began)

				began = time.Now()
				keys := f.ready(headOf("ipc", batch, 0))["ipc"]
				if len(keys) != batch {
					b.Fatalf("%d are ready", len(keys))
				}
				finding += time.Since(began)

				began = time.Now()
				f.change(fence, claim, keys...)
				claiming += time.Since(began)

				began = time.Now()
				f.change(fence, func(x *command.Tx, o *command.Operation) error {
					r := meterread.Reading{DeviceID: o.DeviceID, Item: "1-0:1.8.0", Value: fmt.Sprint(n), Unit: "kWh", ReadAt: x.Now,
						ReceivedAt: x.Now, Quality: meterread.Valid, CommandID: id}
					o.Readings = []meterread.Reading{r}
					x.Readings = append(x.Readings, r)
					return o.Succeed(x.Now)
				}, keys...)
				collecting += time.Since(began)
				n++
			}
			b.StopTimer()
			for _, part := range []struct {
				name string
				took time.Duration
			}{{"create", making}, {"ready", finding}, {"claim", claiming}, {"collect", collecting}, {"all", making + finding + claiming + collecting}} {
				b.ReportMetric(float64(part.took.Microseconds())/float64(n*batch), "µs/op:"+part.name)
			}
			_ = devices
		})
	}
}

// BenchmarkEnd ends open operations in chunks of 5000, as the sweeper does when a deadline passes.
func BenchmarkEnd(b *testing.B) {
	f := fix(b, openPostgres(b))
	f.meters(tenantA, "ipc", "m", 15_000)
	var took time.Duration
	n := 0
	for b.Loop() {
		made, err := f.Create(f.ctx, want(tenantA, command.Selector{All: true}), time.Hour, command.Idempotency{}, 15_000, command.Born)
		check(b, err)
		began := time.Now()
		var after meterread.DeviceID
		for more := true; more; {
			_, after, more, err = f.End(f.ctx, nil, []command.ID{made.Command.ID}, command.Cancelled, "", after, 5000)
			check(b, err)
		}
		took += time.Since(began)
		n += 15_000
	}
	b.ReportMetric(float64(took.Microseconds())/float64(n), "µs/op")
}
