package uplink_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/command"
	"meterline/meterread"
	"meterline/testkit"
	"meterline/uplink"
)

// waitMost is how long a test waits for what must come. Only a test that fails waits so long.
const waitMost = time.Minute

// both runs a test of the suite on each log, of which every partition holds at most limit entries.
func both(t *testing.T, limit int, test func(t *testing.T, log command.Log)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, uplink.NewMemory(limit))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		log := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{Limit: limit, TrimEvery: 10 * time.Millisecond})
		run(t, log)
		test(t, log)
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		log := uplink.NewRedis(cluster(t), uplink.Options{Limit: limit, TrimEvery: 10 * time.Millisecond})
		run(t, log)
		test(t, log)
	})
	t.Run("two as one", func(t *testing.T) {
		t.Parallel()
		first := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{Limit: limit, TrimEvery: 10 * time.Millisecond})
		second := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{Limit: limit, TrimEvery: 10 * time.Millisecond})
		run(t, first)
		run(t, second)
		log := uplink.NewBoth(first, second, 0)
		run(t, log)
		test(t, log)
	})
}

// run runs the log until the test ends.
func run(t *testing.T, log interface{ Run(context.Context) error }) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- log.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run, told to stop, returns %v", err)
		}
	})
}

func client(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	ok(t, err)
	o.ContextTimeoutEnabled, o.ReadTimeout = true, waitMost // what takes longer would be done again
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// cluster is a client of a Cluster that the test has to itself.
func cluster(t testing.TB) *redis.ClusterClient {
	t.Helper()
	c := redis.NewClusterClient(&redis.ClusterOptions{Addrs: testkit.RedisCluster(t), ContextTimeoutEnabled: true, ReadTimeout: waitMost})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// put appends in the background; the channel gives the answer. A log in memory answers when Stored was called.
func put(t *testing.T, log command.Log, entries ...command.Uplink) <-chan error {
	t.Helper()
	answer := make(chan error, 1)
	go func() { answer <- log.Append(t.Context(), entries) }()
	return answer
}

func answered(t *testing.T, answer <-chan error) {
	t.Helper()
	select {
	case err := <-answer:
		ok(t, err)
	case <-time.After(waitMost):
		t.Fatal("Append does not answer")
	}
}

// reader reads partitions as their owner does.
type reader struct {
	t   *testing.T
	log command.Log
	at  []command.LogPosition
	got []command.Uplink
}

func newReader(t *testing.T, log command.Log, partitions int) *reader {
	r := &reader{t: t, log: log, at: make([]command.LogPosition, partitions)}
	for i := range r.at {
		r.at[i].Partition = i
	}
	return r
}

func (r *reader) read(limit int) []command.LogBatch {
	r.t.Helper()
	batches := readAll(r.t, r.log, r.at, limit)
	for i, b := range batches {
		if b.Partition != i || len(b.Entries) > limit || b.Generation == "" {
			r.t.Fatalf("batch %d: partition %d, %d entries, generation %q", i, b.Partition, len(b.Entries), b.Generation)
		}
		r.at[i] = b.LogPosition
		r.got = append(r.got, b.Entries...)
	}
	return batches
}

// readAll reads once. Of two logs as one either is left out for a while when it has not answered within a second, which a machine
// that stands still is enough for: a batch then has no horizon. What the other one held is read again.
func readAll(t *testing.T, log command.Log, at []command.LogPosition, limit int) (batches []command.LogBatch) {
	t.Helper()
	_, two := log.(*uplink.Both)
	testkit.Eventually(t, waitMost, func() bool {
		var err error
		if batches, err = log.Read(t.Context(), at, limit); err != nil && two {
			return false
		}
		ok(t, err)
		return !slices.ContainsFunc(batches, func(b command.LogBatch) bool { return b.Horizon.IsZero() })
	}, "an answer of the whole log")
	return batches
}

// until reads until it has n entries in all.
func (r *reader) until(n int) {
	r.t.Helper()
	testkit.Eventually(r.t, waitMost, func() bool { r.read(100); return len(r.got) >= n }, strconv.Itoa(n)+" entries")
	if len(r.got) > n {
		r.t.Fatalf("%d entries instead of %d", len(r.got), n)
	}
}

func (r *reader) stored() { r.log.Stored(r.t.Context(), r.at) }

func entry(partition int, endpoint, payload string) command.Uplink {
	return command.Uplink{Partition: partition, Endpoint: meterread.DeviceID(endpoint), Epoch: 1767225600000001,
		Gateway: "g-1/a", Kind: command.UplinkResult, Payload: []byte(payload)}
}

func TestEntriesComeBackAsTheyWere(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		all := []command.Uplink{
			entry(0, "e-1", `{"v":1}`),
			entry(0, "e-2", ""),
			entry(0, "e-1", "\x00\xff\r\n\x80"),
			entry(0, "e-1", string(bytes.Repeat([]byte{0xa5}, 256<<10))),
		}
		all[1].Epoch, all[1].Kind = 0, command.UplinkDisconnected
		before := time.Now().Add(-time.Second)
		answer := put(t, log, all...)
		r := newReader(t, log, 1)
		r.until(len(all))
		r.stored()
		answered(t, answer)
		seen := map[command.Position]bool{"": true}
		for i, got := range r.got {
			if got.AppendedAt.Before(before) || got.AppendedAt.After(time.Now().Add(time.Second)) {
				t.Errorf("appended at %s", got.AppendedAt)
			}
			if seen[got.Position] {
				t.Errorf("position %q twice", got.Position)
			}
			seen[got.Position] = true
			got.Position, got.Entry, got.AppendedAt = "", "", time.Time{}
			if len(got.Payload) == 0 {
				got.Payload = []byte{}
			}
			if !reflect.DeepEqual(got, all[i]) {
				t.Errorf("entry %d is %.200v, want %.200v", i, got, all[i])
			}
		}
		if r.at[0].Position != r.got[3].Position {
			t.Errorf("the batch ends at %q, its last entry is at %q", r.at[0].Position, r.got[3].Position)
		}
	})
}

func TestABatchOverManyPartitions(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		const partitions, each = 16, 20
		var all []command.Uplink
		for i := range partitions * each {
			all = append(all, entry(i%partitions, fmt.Sprintf("e-%d", i%partitions), strconv.Itoa(i/partitions)))
		}
		answer := put(t, log, all...)
		r := newReader(t, log, partitions)
		r.until(len(all))
		r.stored()
		answered(t, answer)
		next := map[int]int{}
		for _, u := range r.got {
			if string(u.Payload) != strconv.Itoa(next[u.Partition]) {
				t.Fatalf("partition %d: %s instead of %d", u.Partition, u.Payload, next[u.Partition])
			}
			next[u.Partition]++
		}
		for _, b := range r.read(10) {
			if len(b.Entries) > 0 {
				t.Fatal("entries twice")
			}
		}
	})
}

func TestReadInParts(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		var all []command.Uplink
		for i := range 250 {
			all = append(all, entry(0, "e-1", strconv.Itoa(i)))
		}
		answer := put(t, log, all...)
		newReader(t, log, 1).until(250)
		r := newReader(t, log, 1)
		for _, want := range []int{120, 120, 10, 0} {
			b := r.read(120)[0]
			if len(b.Entries) != want {
				t.Fatalf("%d entries, want %d", len(b.Entries), want)
			}
			if want == 120 && !b.Horizon.Equal(b.Entries[119].AppendedAt) {
				t.Fatalf("there is more, but the horizon is %s and the last entry of %s", b.Horizon, b.Entries[119].AppendedAt)
			}
			if want < 120 && (b.Horizon.After(b.Now) || b.Now.Sub(b.Horizon) > time.Millisecond) {
				t.Fatalf("there is no more, but at %s the horizon is %s", b.Now, b.Horizon)
			}
		}
		for i, u := range r.got {
			if string(u.Payload) != strconv.Itoa(i) {
				t.Fatalf("entry %d is %s", i, u.Payload)
			}
		}
		r.stored()
		answered(t, answer)
	})
}

func TestAnotherGenerationIsReadFromTheStart(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		answer := put(t, log, entry(0, "e-1", "one"))
		first := newReader(t, log, 1)
		first.until(1)

		other := newReader(t, log, 1)
		other.at[0] = command.LogPosition{Generation: "of another log", Position: first.at[0].Position}
		other.until(1)
		if other.at[0] != first.at[0] {
			t.Fatalf("at %+v, want %+v", other.at[0], first.at[0])
		}
		log.Stored(t.Context(), []command.LogPosition{{Generation: "of another log", Position: "9999999999999-0"}})
		newReader(t, log, 1).until(1) // that made nothing go away
		first.stored()
		answered(t, answer)
	})
}

func TestArrivedIsSignalled(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		r := newReader(t, log, 1)
		n := 0
		for range 3 {
			testkit.Eventually(t, waitMost, func() bool { // a subscription may take its time
				n++
				answer := put(t, log, entry(0, "e-1", "x"))
				r.until(n)
				r.stored()
				answered(t, answer)
				select {
				case <-log.Arrived():
					return true
				default:
					return false
				}
			}, "the signal")
		}
	})
}

// While several gateways append, every endpoint's entries keep their order, and nothing that a horizon has passed comes
// later.
func TestOrderAndHorizonWhileOthersAppend(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		const appenders, batches, size, partitions = 6, 30, 10, 2
		var work sync.WaitGroup
		for a := range appenders {
			work.Go(func() {
				for b := range batches {
					var entries []command.Uplink
					for i := range size {
						entries = append(entries, entry(a%partitions, fmt.Sprintf("e-%d", a), strconv.Itoa(b*size+i)))
					}
					if err := log.Append(t.Context(), entries); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		defer work.Wait()
		r := newReader(t, log, partitions)
		horizon := make([]time.Time, partitions)
		next := map[meterread.DeviceID]int{}
		testkit.Eventually(t, time.Minute, func() bool {
			for p, b := range r.read(7) {
				if b.Horizon.Before(horizon[p]) {
					t.Fatalf("the horizon went back from %s to %s", horizon[p], b.Horizon)
				}
				for _, u := range b.Entries {
					if u.AppendedAt.Before(horizon[p]) {
						t.Fatalf("an entry of %s came after the horizon %s", u.AppendedAt, horizon[p])
					}
					if string(u.Payload) != strconv.Itoa(next[u.Endpoint]) {
						t.Fatalf("%s: %s instead of %d", u.Endpoint, u.Payload, next[u.Endpoint])
					}
					next[u.Endpoint]++
				}
				horizon[p] = b.Horizon
			}
			r.stored()
			return len(r.got) == appenders*batches*size
		}, "all entries")
	})
}

func TestAFullLogTakesNothingUntilItIsStored(t *testing.T) {
	both(t, 150, func(t *testing.T, log command.Log) {
		many := func(n int) (all []command.Uplink) {
			for range n {
				all = append(all, entry(0, "e-1", "x"))
			}
			return all
		}
		r := newReader(t, log, 1)
		first := put(t, log, many(100)...)
		r.until(100)
		for range 3 {
			if err := log.Append(t.Context(), many(51)); !errors.Is(err, uplink.ErrFull) {
				t.Fatalf("Append says %v", err)
			}
		}
		r.until(100)
		second := put(t, log, many(50)...)
		r.until(150)
		r.stored()
		answered(t, first)
		answered(t, second)
		var third <-chan error
		testkit.Eventually(t, waitMost, func() bool { // trimming takes its time
			if third == nil {
				third = put(t, log, many(50)...)
			}
			select {
			case err := <-third:
				third = nil
				if errors.Is(err, uplink.ErrFull) {
					return false
				}
				ok(t, err)
				return true
			default:
				r.read(100)
				return len(r.got) == 200 // taken, and waits to be stored
			}
		}, "room")
		r.until(200)
		r.stored()
		if third != nil {
			answered(t, third)
		}
	})
}

func TestNothingToAppend(t *testing.T) {
	both(t, 0, func(t *testing.T, log command.Log) {
		ok(t, log.Append(t.Context(), nil))
		batches, err := log.Read(t.Context(), nil, 10)
		if err != nil || len(batches) != 0 {
			t.Fatal(batches, err)
		}
	})
}
