package store

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/testkit"
)

var dueMany = flag.Int("due", 1_000_000, "how many operations are due at once in BenchmarkExpire")

// BenchmarkExpire writes down what is due, chunk by chunk as the worker does: operations a second, and how much processor
// time PostgreSQL takes for each.
//
//	go test ./store -run '^$' -bench Expire -benchtime 1x -timeout 30m [-due 200000]
func BenchmarkExpire(b *testing.B) {
	n := *dueMany
	for _, c := range []struct {
		commands, each, beside int
	}{{1, n, 0}, {20, n / 20, 0}, {1, 50_000, n}, {1000, 50, n}, {50_000, 1, n}} {
		b.Run(fmt.Sprintf("commands=%d/operations=%d/beside=%d", c.commands, c.commands*c.each, c.beside), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				f := fix(b, newRecord(b, testkit.PostgresPrivate(b).URL))
				f.heap("beside", min(c.beside, 20), c.beside/20, "1 day")
				f.heap("due", c.commands, c.each, "-1 second")
				fence := f.own("w")
				worked := f.processorTime()
				b.StartTimer()
				began := time.Now()
				ended, longest := f.expireAll(fence, 5000)
				took := time.Since(began)
				b.StopTimer()
				if ended != c.commands*c.each {
					b.Fatalf("%d of %d have ended", ended, c.commands*c.each)
				}
				b.ReportMetric(float64(ended)/took.Seconds(), "ops/s")
				b.ReportMetric(float64((f.processorTime()-worked).Microseconds())/float64(ended), "pg-µs/op")
				b.ReportMetric(float64(longest.Milliseconds()), "ms/longest-chunk")
				b.StartTimer()
			}
		})
	}
}

// BenchmarkEndWays compares, in one run and in turns, what it costs PostgreSQL to end operations where they are with sending
// their keys here and back.
//
//	go test ./store -run '^$' -bench EndWays -benchtime 1x
func BenchmarkEndWays(b *testing.B) {
	const rounds, each = 6, 10_000
	for b.Loop() {
		f := fix(b, newRecord(b, testkit.PostgresPrivate(b).URL))
		f.heap("due", 2*rounds, each, "-1 second")
		due, err := f.Due(f.ctx, nil, 2*rounds)
		check(b, err)
		var took, worked [2]time.Duration
		for i, c := range due {
			began, before := time.Now(), f.processorTime()
			var after meterread.DeviceID
			for more := true; more; {
				if i%2 == 0 {
					_, after, more, err = f.End(f.ctx, nil, []command.ID{c.ID}, command.Expired, "", after, 5000)
				} else {
					after, more, err = f.endByKeys(c.ID, after, 5000)
				}
				check(b, err)
			}
			took[i%2] += time.Since(began)
			worked[i%2] += f.processorTime() - before
		}
		for i, way := range []string{"where-they-are", "by-keys"} {
			b.ReportMetric(rounds*each/took[i].Seconds(), "ops/s:"+way)
			b.ReportMetric(float64(worked[i].Microseconds())/(rounds*each), "pg-µs/op:"+way)
		}
	}
}

// endByKeys ends a chunk in the way of endThese.
func (f fixture) endByKeys(id command.ID, after meterread.DeviceID, limit int) (last meterread.DeviceID, more bool, err error) {
	err = f.write(f.ctx, bulk, func(x *tx) error {
		now, err := x.now()
		if err != nil {
			return err
		}
		open, err := x.heldBy(`
			WHERE command_id = $1 AND device_id IN (
				SELECT device_id
				FROM operations
				WHERE command_id = $1 AND device_id > $2 AND `+yetToEnd+`
				ORDER BY device_id
				LIMIT $3)`, string(id), string(after), limit)
		if err != nil || len(open) == 0 {
			more = false
			return err
		}
		last, more = open[len(open)-1].DeviceID, len(open) == limit
		_, err = x.endThese(now, open, command.Expired, "")
		return err
	})
	return last, more, err
}

// heap makes operations that wait, of commands whose deadline is that far away, as they are when they were just made: the
// planner has not heard of them.
func (f fixture) heap(name string, commands, each int, deadline string) {
	f.Helper()
	if commands == 0 || each == 0 {
		return
	}
	names := strings.NewReplacer("{name}", name, "{commands}", strconv.Itoa(commands), "{each}", strconv.Itoa(each), "{deadline}", deadline)
	f.script(names, `
		INSERT INTO commands (seq, id, tenant, kind, mode, priority, selector, items, max_age_us, max_attempts, issued_by, traceparent, created_at,
			expires_at, expanding, expanded_to, made, running, version, total, sent, delivered, accepted, succeeded, failed, expired, cancelled, dead)
		SELECT nextval('commands_seq_seq'), '{name}-' || lpad(i::text, 6, '0'), 'acme', 'meter.read', 'async', 5, '{"all":true}', '["1-0:1.8.0"]', 0, 5, 'token', '',
			now() - interval '1 hour', now() + interval '{deadline}', FALSE, 'z', {each}, TRUE, 1, {each}, 0, 0, 0, 0, 0, 0, 0, 0
		FROM generate_series(1, {commands}) AS i`, `
		INSERT INTO operations (command_id, device_id, tenant, endpoint_id, partition, kind, priority, seq, state, open, delivery, attempts, max_attempts,
			next_at, created_at, expires_at, updated_at, device, from_stock, moves, version, changed)
		SELECT id, 'm' || lpad(d::text, 7, '0'), tenant, 'ipc' || lpad((d / 50)::text, 5, '0'), d / 50 % 16,
			kind, priority, seq, 'queued', TRUE, 'never_sent', 0, 5, created_at, created_at, expires_at, created_at,
			'{"name":"Device ' || d || '","kind":"meter","endpoint_id":"ipc' || lpad((d / 50)::text, 5, '0') ||
				'","route":[{"bus":"com1","baud":2400},{"meter":"000012345678","protocol":"dlt645-2007"}],"tags":{"city":"Graz"}}',
			FALSE, '[{"state":"queued","at":"2026-01-31T12:00:00.123456Z"}]', 1, 1
		FROM commands
		CROSS JOIN LATERAL generate_series(CASE WHEN {each} = 1 THEN seq ELSE 0 END, CASE WHEN {each} = 1 THEN seq ELSE {each} - 1 END) AS d
		WHERE id LIKE '{name}-%'
		ORDER BY seq, d`)
}

// expireAll does what the worker does about deadlines, without the worker.
func (f fixture) expireAll(fence command.Fence, chunk int) (ended int, longest time.Duration) {
	f.Helper()
	for {
		due, err := f.Due(f.ctx, nil, 5000)
		check(f, err)
		if len(due) == 0 {
			return ended, longest
		}
		for len(due) > 0 {
			var ids []command.ID
			for open := 0; len(due) > 0 && (len(ids) == 0 || open+due[0].Counts.Open() <= chunk); due = due[1:] {
				ids = append(ids, due[0].ID)
				open += due[0].Counts.Open()
			}
			var after meterread.DeviceID
			for more := true; more; {
				began := time.Now()
				_, after, more, err = f.End(f.ctx, fence, ids, command.Expired, "", after, chunk)
				check(f, err)
				longest = max(longest, time.Since(began))
			}
		}
		ended = f.expired()
	}
}

func (f fixture) expired() (n int) {
	f.Helper()
	check(f, f.single(f.ctx, func(t *tx) error { return t.get(&n, `SELECT sum(expired) FROM commands`) }))
	return n
}

// processorTime is what all processes of the PostgreSQL server have used by now, as the kernel counts it in nanoseconds. Those that
// have ended are included, in hundredths of a second.
func (f fixture) processorTime() (sum time.Duration) {
	f.Helper()
	var data string
	check(f, f.single(f.ctx, func(t *tx) error { return t.get(&data, `SHOW data_directory`) }))
	pidFile, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		f.Skipf("whose processes they are cannot be told: %v", err)
	}
	postmaster, _, _ := strings.Cut(string(pidFile), "\n")
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	check(f, err)
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has just ended
		}
		pid, rest, _ := strings.Cut(string(text), " ")
		_, rest, _ = strings.Cut(rest, ") ") // its name
		fields := strings.Fields(rest)
		if pid == postmaster { // proc(5): of its children that have ended
			for _, s := range fields[13:15] {
				n, _ := strconv.Atoi(s)
				sum += time.Duration(n) * (time.Second / 100)
			}
		}
		if pid != postmaster && fields[1] != postmaster {
			continue
		}
		ran, err := os.ReadFile(filepath.Join(filepath.Dir(path), "schedstat"))
		if err != nil {
			continue
		}
		n, _ := strconv.ParseInt(strings.Fields(string(ran))[0], 10, 64)
		sum += time.Duration(n)
	}
	return sum
}
