package uplink_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/testkit"
	"meterline/uplink"
)

const stream = "meterline:uplink:{0}"

// private is a Redis that the test may break, with a log in it.
func private(t *testing.T, opt uplink.Options) (*testkit.RedisHandle, *redis.Client, *uplink.Redis) {
	t.Helper()
	h := testkit.RedisPrivate(t)
	c := client(t, "redis://"+h.Addr)
	return h, c, uplink.NewRedis(c, opt)
}

func add(t *testing.T, log *uplink.Redis, payloads ...string) {
	t.Helper()
	var all []command.Uplink
	for _, p := range payloads {
		all = append(all, entry(0, "e-1", p))
	}
	ok(t, log.Append(t.Context(), all))
}

func payloads(r *reader) string {
	var all []string
	for _, u := range r.got {
		all = append(all, string(u.Payload))
	}
	return strings.Join(all, " ")
}

func TestRedisFlushMakesAnotherGeneration(t *testing.T) {
	_, c, log := private(t, uplink.Options{})
	for name, flush := range map[string]func() error{
		"all":        func() error { return c.FlushAll(t.Context()).Err() },
		"generation": func() error { return c.Del(t.Context(), stream+":generation").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			ok(t, c.FlushAll(t.Context()).Err())
			r := newReader(t, log, 1)
			add(t, log, "a", "b")
			r.until(2)
			before := r.at[0]
			ok(t, flush())
			if name == "all" {
				add(t, log, "a", "b") // what was flushed is lost, this was not
			}
			r.got = nil
			r.until(2)
			if payloads(r) != "a b" || r.at[0].Generation == before.Generation {
				t.Fatalf("%s in generation %q after %q", payloads(r), r.at[0].Generation, before.Generation)
			}
		})
	}
}

func TestRedisFlushedAndReadBeforeAnythingCame(t *testing.T) {
	_, c, log := private(t, uplink.Options{})
	add(t, log, "a")
	r := newReader(t, log, 1)
	r.until(1)
	ok(t, c.FlushAll(t.Context()).Err())
	r.read(10)
	if r.at[0].Position != "" {
		t.Fatalf("an empty log of a new generation is at %q", r.at[0].Position)
	}
	add(t, log, "b")
	r.until(2)
}

func TestRedisPositionsOutliveOthersReadingFirst(t *testing.T) {
	_, _, log := private(t, uplink.Options{})
	r := newReader(t, log, 1)
	r.read(10) // makes the generation
	add(t, log, "a")
	r.until(1)
	other := newReader(t, log, 1)
	other.read(10)
	if other.at[0] != r.at[0] {
		t.Fatalf("at %+v and %+v", other.at[0], r.at[0])
	}
}

func TestRedisCorruptEntries(t *testing.T) {
	ctx := t.Context()
	_, c, log := private(t, uplink.Options{})
	add(t, log, "good")
	written, err := c.XRange(ctx, stream, "-", "+").Result()
	ok(t, err)
	for field, value := range map[string]string{"e": "e-2", "s": "5", "k": "ack", "p": "god", "c": "00000000"} {
		values := map[string]any{}
		for k, v := range written[0].Values {
			values[k] = v
		}
		values[field] = value
		ok(t, c.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: values}).Err())
	}
	ok(t, c.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"foreign", "x"}}).Err())
	add(t, log, "good")
	r := newReader(t, log, 1)
	r.until(8)
	for i, u := range r.got {
		if good := i == 0 || i == 7; u.Corrupt == good || u.Position == "" {
			t.Errorf("entry %d: corrupt %v, %+v", i, u.Corrupt, u)
		}
	}
}

func TestRedisTrimsOnlyWhatIsStored(t *testing.T) {
	_, c, log := private(t, uplink.Options{TrimEvery: 5 * time.Millisecond})
	run(t, log)
	length := func() int64 {
		n, err := c.XLen(t.Context(), stream).Result()
		ok(t, err)
		return n
	}
	const all = 1000
	for i := range all / 100 {
		var some []string
		for j := range 100 {
			some = append(some, strconv.Itoa(i*100+j))
		}
		add(t, log, some...)
	}
	r := newReader(t, log, 1)
	r.read(450)
	mark := r.at[0]
	r.read(450)
	log.Stored(t.Context(), []command.LogPosition{{Partition: 0, Generation: "another", Position: r.at[0].Position}})
	log.Stored(t.Context(), []command.LogPosition{mark})
	// Trimming is by whole nodes of some 100 entries.
	testkit.Eventually(t, waitMost, func() error {
		if n := length(); n > all-300 {
			return fmt.Errorf("%d entries", n)
		}
		return nil
	}, "the log to be trimmed")
	rest := &reader{t: t, log: log, at: []command.LogPosition{mark}}
	rest.until(all - 450)
	if string(rest.got[0].Payload) != "450" {
		t.Fatalf("%s is the first that is left", rest.got[0].Payload)
	}
}

func TestRedisFullPartitionHoldsUpItsBatchOnly(t *testing.T) {
	_, c, log := private(t, uplink.Options{Limit: 10})
	other := uplink.NewRedis(c, uplink.Options{Limit: 10}) // another gateway, which has not seen the length
	add(t, log, strings.Fields(strings.Repeat("x ", 8))...)
	mixed := []command.Uplink{entry(1, "e-2", "y"), entry(0, "e-1", "y"), entry(0, "e-1", "y"), entry(0, "e-1", "y")}
	for i, l := range []*uplink.Redis{log, log, other, other, other} {
		if err := l.Append(t.Context(), mixed); !errors.Is(err, uplink.ErrFull) {
			t.Fatalf("%d: Append says %v", i, err)
		}
	}
	n, err := c.XLen(t.Context(), stream).Result()
	ok(t, err)
	if n != 8 {
		t.Fatalf("partition 0 has %d entries", n)
	}
	if n, err = c.XLen(t.Context(), "meterline:uplink:{1}").Result(); err != nil || n > 1 {
		t.Fatalf("partition 1 has %d entries (%v): refused batches were written again and again", n, err)
	}
	ok(t, log.Append(t.Context(), mixed[:3]))
	ok(t, c.Del(t.Context(), stream).Err()) // trimmed, say
	ok(t, log.Append(t.Context(), mixed))
}

func TestRedisRefusesAsAWhole(t *testing.T) {
	_, c, log := private(t, uplink.Options{})
	add(t, log, "a")
	ok(t, c.ConfigSet(t.Context(), "maxmemory", "1").Err())
	err := log.Append(t.Context(), []command.Uplink{entry(0, "e-1", "b"), entry(1, "e-1", "c")})
	if err == nil || errors.Is(err, uplink.ErrFull) || !strings.Contains(err.Error(), "OOM") {
		t.Fatalf("Append says %v", err)
	}
	r := newReader(t, log, 1) // can be read and so makes room
	r.until(1)
	ok(t, c.ConfigSet(t.Context(), "maxmemory", "0").Err())
	add(t, log, "b")
	r.until(2)
}

func TestRedisForgetsScripts(t *testing.T) {
	_, c, log := private(t, uplink.Options{})
	for i := range 3 {
		ok(t, c.ScriptFlush(t.Context()).Err())
		add(t, log, strconv.Itoa(i), "x")
	}
	ok(t, c.ScriptFlush(t.Context()).Err())
	r := newReader(t, log, 1)
	r.until(6)
	if payloads(r) != "0 x 1 x 2 x" {
		t.Fatal(payloads(r))
	}
}

func TestRedisKilledLosesNothingItTook(t *testing.T) {
	h, _, log := private(t, uplink.Options{})
	var taken []string
	r := newReader(t, log, 1)
	for round := range 3 {
		for i := range 20 {
			p := fmt.Sprintf("%d.%d", round, i)
			testkit.Eventually(t, waitMost, func() error {
				return log.Append(t.Context(), []command.Uplink{entry(0, "e-1", p)})
			}, "Redis to take it")
			taken = append(taken, p)
		}
		h.Kill()
		h.Start()
	}
	testkit.Eventually(t, waitMost, func() error {
		_, err := log.Read(t.Context(), r.at, 1)
		return err
	}, "Redis to be back")
	r.read(1000)
	next := 0
	for _, u := range r.got { // repeats are allowed
		if next < len(taken) && string(u.Payload) == taken[next] {
			next++
		}
	}
	if next != len(taken) {
		t.Fatalf("%s is missing in %s", taken[next], payloads(r))
	}
	if r.at[0].Generation == "" {
		t.Fatal("no generation")
	}
}

func TestRedisAwayOrPaused(t *testing.T) {
	h, _, log := private(t, uplink.Options{})
	add(t, log, "a")
	pulse := testkit.StartPulse(t)
	fails := func() {
		t.Helper()
		ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer stop()
		began := time.Now()
		if err := log.Append(ctx, []command.Uplink{entry(0, "e-1", "b")}); err == nil {
			t.Fatal("Append says nothing")
		}
		if _, err := log.Read(ctx, newReader(t, log, 1).at, 10); err == nil {
			t.Fatal("Read says nothing")
		}
		if took := time.Since(began); took > pulse.Limit(3*time.Second) {
			t.Fatalf("took %s with 100 ms to go", took)
		}
	}
	h.Pause()
	fails()
	h.Resume()
	h.Stop()
	fails()
	h.Start()
	testkit.Eventually(t, waitMost, func() error { return log.Append(t.Context(), []command.Uplink{entry(0, "e-1", "c")}) }, "Redis to be back")
}

func TestRedisDurabilityIsChecked(t *testing.T) {
	ctx := t.Context()
	_, c, log := private(t, uplink.Options{})
	ok(t, log.CheckDurability(ctx))
	for _, weak := range [][2]string{{"appendfsync", "everysec"}, {"maxmemory-policy", "allkeys-lru"}, {"appendonly", "no"}} {
		before, err := c.ConfigGet(ctx, weak[0]).Result()
		ok(t, err)
		ok(t, c.ConfigSet(ctx, weak[0], weak[1]).Err())
		if err := log.CheckDurability(ctx); err == nil || !strings.Contains(err.Error(), weak[0]+` is "`+weak[1]+`"`) {
			t.Errorf("%v: %v", weak, err)
		}
		ok(t, c.ConfigSet(ctx, weak[0], before[weak[0]]).Err())
	}
	ok(t, c.Do(ctx, "ACL", "SETUSER", "app", "on", "nopass", "~*", "&*", "+@all", "-config").Err())
	o := *c.Options()
	limited := client(t, "redis://app:x@"+o.Addr)
	if err := uplink.NewRedis(limited, uplink.Options{}).CheckDurability(ctx); err == nil || !strings.Contains(err.Error(), "CONFIG is unavailable") {
		t.Errorf("without CONFIG: %v", err)
	}
}

func BenchmarkRedisAppend(b *testing.B) {
	for _, size := range []int{100, 500} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			log := uplink.NewRedis(client(b, testkit.RedisURL(b)), uplink.Options{Limit: 1 << 40})
			batch := make([]command.Uplink, size)
			for i := range batch {
				batch[i] = entry(i%16, fmt.Sprintf("e-%d", i), strings.Repeat("x", 200))
			}
			for b.Loop() {
				ok(b, log.Append(b.Context(), batch))
			}
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func BenchmarkRedisRead(b *testing.B) {
	log := uplink.NewRedis(client(b, testkit.RedisURL(b)), uplink.Options{})
	batch := make([]command.Uplink, 8000)
	for i := range batch {
		batch[i] = entry(i%16, fmt.Sprintf("e-%d", i), strings.Repeat("x", 200))
	}
	ok(b, log.Append(b.Context(), batch))
	from := make([]command.LogPosition, 16)
	for i := range from {
		from[i].Partition = i
	}
	for b.Loop() {
		batches, err := log.Read(b.Context(), from, 500)
		ok(b, err)
		if len(batches[15].Entries) != 500 {
			b.Fatalf("%d entries", len(batches[15].Entries))
		}
	}
	b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "entries/s")
}
