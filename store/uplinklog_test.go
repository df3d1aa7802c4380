package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"meterline/command"
	"meterline/meterread"
	"meterline/testkit"
)

func entry(partition int, endpoint, payload string) command.Uplink {
	return command.Uplink{Partition: partition, Endpoint: meterread.DeviceID(endpoint), Epoch: 7, Gateway: "gw-1/abc",
		Kind: command.UplinkResult, Payload: []byte(payload)}
}

func countOf(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	check(t, c.Write(&m))
	return m.GetCounter().GetValue()
}

func starts(partitions ...int) (from []command.LogPosition) {
	for _, n := range partitions {
		from = append(from, command.LogPosition{Partition: n})
	}
	return from
}

func payloads(b command.LogBatch) (list []string) {
	for _, e := range b.Entries {
		list = append(list, string(e.Payload))
	}
	return list
}

func TestTheUplinkLogIsReadAsItWasAppended(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		l := db.UplinkLog(UplinkLogOptions{})
		odd := command.Uplink{Partition: 3, Endpoint: "ipc-1", Epoch: 1 << 40, Gateway: "gw-1/abc", Kind: command.UplinkReadings,
			Payload: []byte("\x00\xff {\"a\":\"\\\\\"}")}
		empty := command.Uplink{Partition: 3, Endpoint: "ipc-2", Kind: command.UplinkConnected}
		check(t, l.Append(ctx, []command.Uplink{odd, entry(5, "d", "other"), empty}))
		check(t, l.Append(ctx, nil))
		before, err := db.Now(ctx)
		check(t, err)
		batches, err := l.Read(ctx, starts(5, 3, 9), 10)
		check(t, err)
		if len(batches) != 3 || batches[0].Partition != 5 || batches[1].Partition != 3 || batches[2].Partition != 9 {
			t.Fatalf("got %+v", batches)
		}
		if got := payloads(batches[0]); !slices.Equal(got, []string{"other"}) {
			t.Errorf("got %q", got)
		}
		b := batches[1]
		if len(b.Entries) != 2 {
			t.Fatalf("got %+v", b)
		}
		for i, want := range []command.Uplink{odd, empty} {
			got := b.Entries[i]
			if got.AppendedAt.IsZero() || got.AppendedAt.After(before) || got.Position == "" || got.Corrupt ||
				got.Partition != 3 || got.Endpoint != want.Endpoint || got.Epoch != want.Epoch || got.Gateway != want.Gateway ||
				got.Kind != want.Kind || !bytes.Equal(got.Payload, want.Payload) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		}
		if b.Position != b.Entries[1].Position || b.Generation == "" || b.Horizon.Before(before) || !b.Horizon.Equal(b.Now) {
			t.Errorf("got %+v", b)
		}
		if e := batches[2]; len(e.Entries) != 0 || e.Position != "" || e.Generation != b.Generation || !e.Horizon.Equal(e.Now) {
			t.Errorf("got %+v", e)
		}

		again, err := l.Read(ctx, []command.LogPosition{b.LogPosition}, 10)
		check(t, err)
		if len(again[0].Entries) != 0 || again[0].LogPosition != b.LogPosition {
			t.Errorf("got %+v", again)
		}
		b.Generation = "another log's"
		again, err = l.Read(ctx, []command.LogPosition{b.LogPosition}, 10)
		check(t, err)
		if len(again[0].Entries) != 2 || again[0].Generation == b.Generation {
			t.Errorf("a position of another generation gave %+v", again)
		}
	})
}

func TestABatchThatIsNotAllReachesNoFurtherThanItsLastEntry(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		l := db.UplinkLog(UplinkLogOptions{})
		for i := range 5 {
			check(t, l.Append(ctx, []command.Uplink{entry(0, "d", strconv.Itoa(i))}))
		}
		from := starts(0)
		var got []string
		for {
			batches, err := l.Read(ctx, from, 2)
			check(t, err)
			b := batches[0]
			got = append(got, payloads(b)...)
			if len(b.Entries) < 2 {
				if !b.Horizon.Equal(b.Now) {
					t.Errorf("the rest reaches to %s, at %s", b.Horizon, b.Now)
				}
				break
			}
			if last := b.Entries[1].AppendedAt; !b.Horizon.Equal(last) || !last.Before(b.Now) {
				t.Errorf("a part reaches to %s, its last entry is of %s", b.Horizon, last)
			}
			from[0] = b.LogPosition
		}
		if !slices.Equal(got, []string{"0", "1", "2", "3", "4"}) {
			t.Errorf("got %v", got)
		}

		large := strings.Repeat("x", readBytes/2)
		check(t, l.Append(ctx, []command.Uplink{entry(1, "d", large), entry(1, "d", large), entry(1, "d", "last")}))
		batches, err := l.Read(ctx, starts(1), 10)
		check(t, err)
		if b := batches[0]; len(b.Entries) != 2 || !b.Horizon.Equal(b.Entries[1].AppendedAt) || b.Position != b.Entries[1].Position {
			t.Errorf("%d entries, to %s", len(b.Entries), b.Horizon)
		}
	})
}

func TestAnEntryThatWasChangedIsCorrupt(t *testing.T) {
	for column, value := range map[string]any{"payload": []byte("forged"), "endpoint_id": "d-2", "epoch": 8, "kind": "ack", "crc": 1} {
		t.Run(column, func(t *testing.T) {
			eachDialect(t, func(t *testing.T, db *DB) {
				ctx := t.Context()
				l := db.UplinkLog(UplinkLogOptions{})
				check(t, l.Append(ctx, []command.Uplink{entry(0, "d-1", "a"), entry(0, "d-1", "b"), entry(0, "d-1", "c")}))
				exec(t, db, `UPDATE uplink_log SET `+column+` = $1 WHERE seq = 2`, value)
				batches, err := l.Read(ctx, starts(0), 10)
				check(t, err)
				var corrupt []bool
				for _, e := range batches[0].Entries {
					corrupt = append(corrupt, e.Corrupt)
				}
				if !slices.Equal(corrupt, []bool{false, true, false}) {
					t.Errorf("corrupt: %v", corrupt)
				}
			})
		})
	}
}

// Several processes append at once while one reads: it must get every entry, each appender's in order, and a Horizon must
// never pass an entry that was not returned yet.
func TestNoReaderMissesAnEntry(t *testing.T) {
	const appenders, batches, size, partitions = 6, 40, 5, 3
	for _, name := range []string{"postgres", "sqlite"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := "sqlite:" + filepath.Join(t.TempDir(), "record.db")
			if name == "postgres" {
				url = testkit.Postgres(t)
			}
			reader := newRecord(t, url).UplinkLog(UplinkLogOptions{})
			others := reopen(t, url)                                       // another process, as far as the database knows
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // 240 commits, each synced, by two processes
			defer cancel()
			var wg sync.WaitGroup
			for a := range appenders {
				l := others.UplinkLog(UplinkLogOptions{})
				if a%2 == 0 {
					l = reader
				}
				wg.Go(func() {
					for b := range batches {
						var es []command.Uplink
						for i := range size {
							es = append(es, entry((b+i)%partitions, fmt.Sprintf("d-%d", a), strconv.Itoa(b*size+i)))
						}
						if err := l.Append(ctx, es); err != nil {
							t.Errorf("append: %v", err)
							return
						}
					}
				})
			}
			appended := make(chan struct{})
			go func() { wg.Wait(); close(appended) }()
			readEverything(ctx, t, reader, partitions, appenders*batches*size, appended)
			<-appended
		})
	}
}

func readEverything(ctx context.Context, t *testing.T, l *UplinkLog, partitions, want int, appended <-chan struct{}) {
	t.Helper()
	from := make([]command.LogPosition, partitions)
	for n := range from {
		from[n].Partition = n
	}
	horizon := make([]time.Time, partitions)
	last := map[string]int{} // endpoint and partition → number
	got := 0
	for ended := false; ; {
		select {
		case <-appended:
			ended = true
		default:
		}
		read, err := l.Read(ctx, from, 7)
		if err != nil {
			t.Fatal(err)
		}
		found := 0
		for n, b := range read {
			for _, e := range b.Entries {
				number, _ := strconv.Atoi(string(e.Payload))
				key := fmt.Sprintf("%s/%d", e.Endpoint, n)
				if before, seen := last[key]; seen && number <= before {
					t.Errorf("%s: %d after %d", key, number, before)
				}
				last[key] = number
				if e.AppendedAt.Before(horizon[n]) {
					t.Errorf("%s: %d of %s came after the horizon %s", key, number, e.AppendedAt, horizon[n])
				}
			}
			found += len(b.Entries)
			horizon[n], from[n] = b.Horizon, b.LogPosition
		}
		got += found
		if ended && found == 0 {
			break
		}
	}
	if got != want {
		t.Errorf("read %d entries, want %d", got, want)
	}
}

func TestWhatIsStoredIsForgotten(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		reg := prometheus.NewRegistry()
		l := db.UplinkLog(UplinkLogOptions{Registerer: reg})
		var es []command.Uplink
		for i := range 2*trimRows + 10 {
			es = append(es, entry(i%2, "d", strconv.Itoa(i)))
		}
		check(t, l.Append(ctx, es))
		batches, err := l.Read(ctx, starts(0, 1), trimRows+1)
		check(t, err)
		l.Stored(ctx, []command.LogPosition{batches[0].LogPosition})
		foreign := batches[1].LogPosition
		foreign.Generation = "another log's"
		l.Stored(ctx, []command.LogPosition{foreign, {Partition: 1, Generation: batches[1].Generation}})

		stopped, cancel := context.WithCancel(ctx)
		cancel()
		if err := l.trim(stopped); err == nil {
			t.Error("trimmed without a database")
		}
		check(t, l.trim(ctx)) // what failed is tried again
		left, err := l.Read(ctx, starts(0, 1), 2*trimRows)
		check(t, err)
		if got := []int{len(left[0].Entries), len(left[1].Entries)}; !slices.Equal(got, []int{4, trimRows + 5}) {
			t.Errorf("left %v", got)
		}
		if first := left[0].Entries[0].Payload; string(first) != strconv.Itoa(2*(trimRows+1)) {
			t.Errorf("the first left is %s", first)
		}
		if got := countOf(t, l.metrics.trimmed); got != trimRows+1 {
			t.Errorf("counted %v", got)
		}
	})
}

func TestAFullPartitionTakesNothingUntilSomethingIsStored(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		l := db.UplinkLog(UplinkLogOptions{Bound: 3})
		check(t, l.Append(ctx, []command.Uplink{entry(1, "d", "a"), entry(2, "d", "-"), entry(2, "d", "-"), entry(1, "d", "b")}))
		// The numbers of partition 1 span four, of which it holds two.
		fresh := db.UplinkLog(UplinkLogOptions{Bound: 3})
		check(t, fresh.Append(ctx, []command.Uplink{entry(1, "d", "c")}))
		for _, log := range []*UplinkLog{fresh, db.UplinkLog(UplinkLogOptions{Bound: 3})} {
			err := log.Append(ctx, []command.Uplink{entry(2, "d", "not even this"), entry(1, "d", "d")})
			wantErr(t, err, ErrLogFull)
		}
		if got := countOf(t, fresh.metrics.refused.WithLabelValues("full")); got != 2 {
			t.Errorf("counted %v refused", got)
		}
		check(t, fresh.Append(ctx, []command.Uplink{entry(2, "d", "room here")}))
		many := make([]command.Uplink, 9)
		for i := range many {
			many[i] = entry(7, "d", "x")
		}
		check(t, fresh.Append(ctx, many)) // an empty partition takes a batch of any size
		wantErr(t, fresh.Append(ctx, many[:1]), ErrLogFull)

		batches, err := fresh.Read(ctx, starts(1, 2), 10)
		check(t, err)
		if got := payloads(batches[0]); !slices.Equal(got, []string{"a", "b", "c"}) {
			t.Errorf("got %v", got)
		}
		if got := payloads(batches[1]); !slices.Equal(got, []string{"-", "-", "room here"}) {
			t.Errorf("got %v", got)
		}
		fresh.Stored(ctx, []command.LogPosition{batches[0].LogPosition})
		check(t, fresh.trim(ctx))
		check(t, fresh.Append(ctx, []command.Uplink{entry(1, "d", "d"), entry(1, "d", "e"), entry(1, "d", "f")}))
		wantErr(t, fresh.Append(ctx, []command.Uplink{entry(1, "d", "g")}), ErrLogFull)
	})
}

func TestRunSignalsWhatOthersAppend(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		ctx, cancel := context.WithCancel(t.Context())
		l, gateway := db.UplinkLog(UplinkLogOptions{}), db.UplinkLog(UplinkLogOptions{})
		_, err := l.Read(ctx, starts(0, 1), 10)
		check(t, err)
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		check(t, gateway.Append(ctx, []command.Uplink{entry(5, "d", "not ours"), entry(1, "d", "ours")}))
		arrived := func() {
			t.Helper()
			select {
			case <-l.Arrived():
			case <-time.After(time.Minute):
				t.Fatal("no signal")
			}
		}
		arrived()
		arrived() // as long as it has not been read
		batches, err := l.Read(ctx, starts(0, 1), 10)
		check(t, err)
		if got := payloads(batches[1]); !slices.Equal(got, []string{"ours"}) {
			t.Errorf("got %v", got)
		}
		if waiting, err := l.waiting(ctx); err != nil || waiting {
			t.Errorf("waiting: %v, %v", waiting, err)
		}
		l.Stored(ctx, []command.LogPosition{batches[1].LogPosition})
		testkit.Eventually(t, time.Minute, func() error {
			left, err := gateway.Read(ctx, starts(1), 10)
			if err == nil && len(left[0].Entries) > 0 {
				err = errors.New("not trimmed")
			}
			return err
		}, "the stored entry to be trimmed")
		l.Signal()
		arrived()
		cancel()
		check(t, <-ended)
	})
}
