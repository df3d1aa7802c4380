package uplink_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"meterline/command"
	"meterline/testkit"
	"meterline/uplink"
)

// follow reads on from a position until it has seen n entries, and gives their payloads.
func follow(t *testing.T, log command.Log, at command.LogPosition, n int) ([]string, command.LogPosition) {
	t.Helper()
	var got []string
	testkit.Eventually(t, waitMost, func() bool {
		batches := readAll(t, log, []command.LogPosition{at}, 3)
		for _, u := range batches[0].Entries {
			got = append(got, string(u.Payload))
		}
		at = batches[0].LogPosition
		return len(got) >= n
	}, fmt.Sprintf("%d entries", n))
	return got, at
}

// Whatever is appended to either of two logs is read once, from any position that an entry had.
func TestTwoLogsAsOne(t *testing.T) {
	t.Parallel()
	first := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{})
	second := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{})
	log := uplink.NewBoth(first, second, uplink.Quiet)
	entry := func(payload string) []command.Uplink {
		return []command.Uplink{{Partition: 3, Endpoint: "m-1", Kind: command.UplinkResult, Payload: []byte(payload)}}
	}
	for i := range 5 {
		ok(t, first.Append(t.Context(), entry(fmt.Sprintf("a%d", i))))
		ok(t, second.Append(t.Context(), entry(fmt.Sprintf("b%d", i))))
	}
	got, at := follow(t, log, command.LogPosition{Partition: 3}, 10)
	if len(got) != 10 {
		t.Fatalf("read %v", got)
	}
	ok(t, second.Append(t.Context(), entry("b5")))
	if got, at = follow(t, log, at, 1); len(got) != 1 || got[0] != "b5" {
		t.Fatalf("then read %v", got)
	}
	ok(t, log.Append(t.Context(), entry("a5")))
	if got, _ = follow(t, log, at, 1); len(got) != 1 || got[0] != "a5" {
		t.Fatalf("then read %v", got)
	}

	// From the position of each entry on, exactly what comes after it in the order of reading is read.
	batches := readAll(t, uplink.NewBoth(first, second, uplink.Quiet), []command.LogPosition{{Partition: 3}}, 100)
	all := batches[0].Entries
	for i, u := range all {
		from := batches[0].LogPosition
		from.Position = u.Position
		rest := readAll(t, uplink.NewBoth(first, second, uplink.Quiet), []command.LogPosition{from}, 100)
		if len(rest[0].Entries) != len(all)-i-1 {
			t.Fatalf("after entry %d of %d there are %d", i, len(all), len(rest[0].Entries))
		}
	}
}

// broken is a log that cannot be read.
type broken struct{ command.Log }

func (broken) Read(context.Context, []command.LogPosition, int) ([]command.LogBatch, error) {
	return nil, errors.New("away")
}

// When one cannot be read the other's entries come all the same, and nothing is claimed about the time that was read past.
func TestOneOfTwoLogsIsAway(t *testing.T) {
	t.Parallel()
	well := uplink.NewRedis(client(t, testkit.RedisURL(t)), uplink.Options{})
	ok(t, well.Append(t.Context(), []command.Uplink{{Partition: 0, Endpoint: "m-1", Kind: command.UplinkResult, Payload: []byte("x")}}))
	for _, log := range []*uplink.Both{uplink.NewBoth(broken{well}, well, uplink.Quiet), uplink.NewBoth(well, broken{well}, uplink.Quiet)} {
		var batches []command.LogBatch
		testkit.Eventually(t, waitMost, func() (err error) { // a busy machine may let the other pass for away, too
			batches, err = log.Read(t.Context(), []command.LogPosition{{Partition: 0}}, 10)
			return err
		}, "an answer of the one that is there")
		if len(batches[0].Entries) != 1 || !batches[0].Horizon.IsZero() {
			t.Fatalf("%+v", batches[0])
		}
	}
	if _, err := uplink.NewBoth(broken{well}, broken{well}, uplink.Quiet).Read(t.Context(), []command.LogPosition{{Partition: 0}}, 10); err == nil {
		t.Fatal("two logs that are away are read without an error")
	}
}
