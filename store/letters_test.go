package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

func decision(tenant fleet.Tenant, as string) command.Decision {
	return command.Decision{ID: newID(), As: as,
		By: command.Actor{Token: fleet.Token{ID: "token-1", Tenant: tenant, Name: "night shift", Scopes: []fleet.Scope{fleet.DeadLettersWrite, fleet.CommandsWrite}},
			RequestID: "req-1", RemoteAddr: "192.0.2.1:4711"},
		Partition: func(d command.DeviceID) int { return fleet.Partition(d, Partitions) }}
}

func one(ids ...string) command.DeadLetterFilter { return command.DeadLetterFilter{IDs: ids} }

// bury stores dead letters as a worker does.
func (f fixture) bury(letters ...command.DeadLetter) {
	f.Helper()
	_, err := f.Change(f.ctx, f.own("w"), command.Need{}, func(x *command.Tx) error {
		x.DeadLetters = slices.Clone(letters)
		return nil
	})
	check(f, err)
}

func uplinkLetter(tenant fleet.Tenant, endpoint, key string) command.DeadLetter {
	return command.DeadLetter{Tenant: tenant, Source: command.LetterUplink, Cause: "BAD_JSON", Detail: "x", EndpointID: meterread.DeviceID(endpoint),
		Kind: command.UplinkReadings, Payload: []byte(key), Key: key, Epoch: 7, Gateway: "g/1", ReceivedAt: noon}
}

func letterKeys(ls []command.DeadLetter) (keys []string) {
	for _, l := range ls {
		keys = append(keys, string(l.Payload))
	}
	slices.Sort(keys)
	return keys
}

func (f fixture) letters(tenant fleet.Tenant, filter command.DeadLetterFilter) []command.DeadLetter {
	f.Helper()
	list, err := f.DeadLetters(f.ctx, tenant, filter, command.Page{Limit: 1000})
	check(f, err)
	return list.Items
}

func TestDeadLettersAreFilteredAndCounted(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		other := uplinkLetter(tenantA, "d2", "k3")
		other.Cause = "BAD_UTF8"
		dead := command.DeadLetter{Tenant: tenantA, Source: command.LetterOperation, Cause: command.CodeAttemptsUsedUp, EndpointID: "ipc", DeviceID: "m1", CommandID: "c1", Payload: []byte("k4"), Key: "k4"}
		long := uplinkLetter(tenantA, "d1", "k5")
		long.Payload = bytes.Repeat([]byte("x"), letterShown+1)
		f.bury(uplinkLetter(tenantA, "d1", "k1"), uplinkLetter(tenantB, "d1", "k2"), other, dead, long)
		for name, c := range map[string]struct {
			filter command.DeadLetterFilter
			want   []string
		}{
			"endpoint":  {command.DeadLetterFilter{EndpointID: "d2"}, []string{"k3"}},
			"device":    {command.DeadLetterFilter{DeviceID: "m1"}, []string{"k4"}},
			"command":   {command.DeadLetterFilter{CommandID: "c1", Status: "open"}, []string{"k4"}},
			"source":    {command.DeadLetterFilter{Source: "operation"}, []string{"k4"}},
			"cause":     {command.DeadLetterFilter{Cause: "BAD_UTF8"}, []string{"k3"}},
			"parent":    {command.DeadLetterFilter{ParentID: "p"}, nil},
			"decision":  {command.DeadLetterFilter{DecisionID: "d"}, nil},
			"discarded": {command.DeadLetterFilter{Status: "discarded"}, nil},
			"period":    {command.DeadLetterFilter{To: noon.Add(-1000000 * time.Hour)}, nil},
		} {
			equal(t, name, letterKeys(f.letters(tenantA, c.filter)), c.want)
		}
		cut := f.letters(tenantA, command.DeadLetterFilter{EndpointID: "d1"})[0]
		for _, l := range f.letters(tenantA, command.DeadLetterFilter{EndpointID: "d1"}) {
			if l.PayloadBytes > letterShown {
				cut = l
			}
		}
		if len(cut.Payload) != letterShown || cut.PayloadBytes != letterShown+1 || !cut.PayloadCut {
			t.Fatalf("a list shows %d of %d bytes, cut %t", len(cut.Payload), cut.PayloadBytes, cut.PayloadCut)
		}
		whole, err := db.DeadLetter(f.ctx, tenantA, cut.ID)
		check(t, err)
		if len(whole.Payload) != letterShown+1 || whole.PayloadCut || whole.Epoch != 7 || whole.Gateway != "g/1" || !whole.ReceivedAt.Equal(noon) || whole.Attempt != 1 {
			t.Fatalf("shown %+v", whole)
		}
		causes, err := db.DeadLetterCauses(f.ctx, tenantA, command.DeadLetterFilter{Status: "open"})
		check(t, err)
		var said []string
		for _, c := range causes {
			if c.Oldest.IsZero() || c.Newest.Before(c.Oldest) {
				t.Errorf("%+v", c)
			}
			said = append(said, fmt.Sprint(c.Cause, " ", c.Count))
		}
		equal(t, "causes", said, []string{"BAD_JSON 2", "ATTEMPTS_USED_UP 1", "BAD_UTF8 1"})
		open, err := db.OpenLetters(f.ctx)
		check(t, err)
		if open["BAD_JSON"] != 3 || open["BAD_UTF8"] != 1 {
			t.Fatalf("open %v", open)
		}
	})
}

// Whoever decides at the same time as others, each letter is decided once.
func TestDeadLettersAreDecidedOnce(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		var letters []command.DeadLetter
		for i := range 300 {
			letters = append(letters, uplinkLetter(tenantA, fmt.Sprint("d", i%7), fmt.Sprint("k", i)))
		}
		corrupt, hint := uplinkLetter(tenantA, "d1", "corrupt"), uplinkLetter(tenantA, "d1", "hint")
		corrupt.Cause, hint.Kind = command.CauseCorrupt, command.UplinkDelivered
		f.bury(append(letters, corrupt, hint)...)
		var all sync.WaitGroup
		var mu sync.Mutex
		decided := 0
		for range 6 {
			all.Go(func() {
				d := decision(tenantA, command.LetterReplayed)
				for range 10 {
					n, err := db.Decide(f.ctx, d, command.DeadLetterFilter{Cause: "", Source: command.LetterUplink}, 40)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					decided += n
					mu.Unlock()
				}
				done, err := db.Decided(f.ctx, d, command.DeadLetterFilter{})
				if err != nil || done.Letters != done.Uplinks || done.Skipped != 2 || done.More {
					t.Errorf("%+v: %v", done, err)
				}
			})
		}
		all.Wait()
		if left := f.letters(tenantA, command.DeadLetterFilter{Status: command.LetterOpen}); decided != 300 || len(left) != 2 {
			t.Fatalf("decided %d, left %d", decided, len(left))
		}
		parts := make([]int, Partitions)
		for i := range parts {
			parts[i] = i
		}
		waiting, err := db.Replays(f.ctx, parts, 1000)
		check(t, err)
		if len(waiting) != 300 || waiting[0].Partition != fleet.Partition(waiting[0].EndpointID, Partitions) || waiting[0].Epoch != 7 {
			t.Fatalf("%d wait, the first %+v", len(waiting), waiting[0])
		}
		if n, err := db.Decide(f.ctx, decision(tenantA, command.LetterDiscarded), command.DeadLetterFilter{}, 1000); n != 2 || err != nil {
			t.Fatalf("discarded %d: %v", n, err)
		}
	})
}

// A letter is handled again in one transaction, once.
func TestReplaysEndOnce(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.bury(uplinkLetter(tenantA, "d1", "k1"), uplinkLetter(tenantA, "d1", "k2"))
		ids := []string{}
		for _, l := range f.letters(tenantA, command.DeadLetterFilter{}) {
			ids = append(ids, l.ID)
		}
		d := decision(tenantA, command.LetterReplayed)
		if n, err := db.Decide(f.ctx, d, one(ids...), 10); n != 2 || err != nil {
			t.Fatalf("decided %d: %v", n, err)
		}
		fence := f.own("w")
		handle := func(fail error) (seen int) {
			_, err := db.Change(f.ctx, fence, command.Need{Replays: ids, Letters: []meterread.DeviceID{"d1", "d9"}}, func(x *command.Tx) error {
				seen = len(x.Replays)
				if load, ok := x.Letters["d9"]; !ok || load.Letters != 0 {
					t.Errorf("nothing is known of d9: %v", x.Letters)
				}
				if seen > 0 {
					again := uplinkLetter(tenantA, "d1", "again")
					again.ParentID, again.Attempt = ids[0], 2
					x.DeadLetters = append(x.DeadLetters, again)
				}
				return fail
			})
			if !errors.Is(err, fail) {
				t.Fatal(err)
			}
			return seen
		}
		for _, c := range []struct {
			fail error
			seen int
		}{{errors.New("no"), 2}, {nil, 2}, {nil, 0}} {
			if seen := handle(c.fail); seen != c.seen {
				t.Fatalf("%d wait, want %d", seen, c.seen)
			}
		}
		for i, id := range ids {
			l, err := db.DeadLetter(f.ctx, tenantA, id)
			if check(t, err); l.HandledAt == nil || l.Again != 1-i {
				t.Errorf("%+v", l)
			}
		}
		equal(t, "children", letterKeys(f.letters(tenantA, command.DeadLetterFilter{ParentID: ids[0]})), []string{"again"})
		_, err := db.Change(f.ctx, fence, command.Need{Letters: []meterread.DeviceID{"d1"}}, func(x *command.Tx) error {
			if x.Letters["d1"] != (command.LetterLoad{Letters: 1, Bytes: 5}) {
				t.Errorf("open %+v", x.Letters)
			}
			return nil
		})
		check(t, err)
	})
}

// Dead operations of one command become one command, without the devices that are gone, once; and what dies again is linked.
func TestDeadOperationsAreReissued(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.ipc(tenantA, "ipc", "m1", "m2", "m3", "m4")
		first := f.issue(tenantA, "m1", "m2", "m3")
		second := f.issue(tenantA, "m4")
		relay := want(tenantA, ids("m1"))
		relay.Kind, relay.Items = command.MeterRelay, nil
		third := f.create(relay, time.Hour)
		var letters []command.DeadLetter
		for c, devices := range map[command.ID][]string{first.Command.ID: {"m1", "m2", "m3"}, second.Command.ID: {"m4"}, third.Command.ID: {"m1"}} {
			for _, m := range devices {
				letters = append(letters, command.DeadLetter{Tenant: tenantA, Source: command.LetterOperation, Cause: command.CodeAttemptsUsedUp,
					EndpointID: "ipc", DeviceID: meterread.DeviceID(m), CommandID: c, Key: "operation/" + string(c) + "/" + m})
			}
		}
		f.bury(letters...)
		_, err := db.DeleteDevice(f.ctx, by(tenantA), "m3")
		check(t, err)
		d := decision(tenantA, command.LetterReplayed)
		dead, err := db.DeadCommands(f.ctx, d, command.DeadLetterFilter{}, 10)
		check(t, err)
		slices.Sort(dead)
		equal(t, "commands", dead, []command.ID{first.Command.ID, second.Command.ID}) // the token may not switch relays
		before, err := db.Decided(f.ctx, d, command.DeadLetterFilter{})
		if check(t, err); !before.More || before.Skipped != 2 {
			t.Fatalf("%+v", before)
		}
		child := func() command.Command {
			c := want(tenantA, command.Selector{})
			c.ID, c.ParentID = command.ID(newID()), first.Command.ID
			return c
		}
		var all sync.WaitGroup
		made := make(chan command.Created, 8)
		for range 8 {
			all.Go(func() {
				got, err := db.Reissue(f.ctx, d, command.DeadLetterFilter{}, child(), time.Hour, 10, 10, command.Born)
				switch {
				case errors.Is(err, command.ErrNothingToDecide):
				case err != nil:
					t.Error(err)
				default:
					made <- got
				}
			})
		}
		all.Wait()
		close(made)
		if len(made) != 1 {
			t.Fatalf("%d new commands", len(made))
		}
		c := (<-made).Command
		if c.Counts.Total != 2 || c.ParentID != first.Command.ID {
			t.Fatalf("%+v", c)
		}
		f.command(c.ID)
		done, err := db.Decided(f.ctx, d, command.DeadLetterFilter{})
		check(t, err)
		if done.Operations != 2 || done.Letters != 2 || !slices.Equal(done.Commands, []command.ID{c.ID}) || !done.More || done.Skipped != 2 {
			t.Fatalf("%+v", done)
		}
		f.bury(command.DeadLetter{Tenant: tenantA, Source: command.LetterOperation, Cause: command.CodeAttemptsUsedUp, DeviceID: "m1", CommandID: c.ID, Key: "again"})
		again := f.letters(tenantA, command.DeadLetterFilter{CommandID: c.ID})[0]
		parent, err := db.DeadLetter(f.ctx, tenantA, again.ParentID)
		if check(t, err); again.Attempt != 2 || parent.DeviceID != "m1" || parent.CommandID != first.Command.ID || parent.Again != 1 || parent.NewCommand != c.ID {
			t.Fatalf("again %+v of %+v", again, parent)
		}
	})
}

// The same key with the same body is the same decision.
func TestDecisionsAreFoundByTheirKey(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		k := command.Idempotency{Key: "k", BodyHash: []byte("body")}
		id, when, again, err := db.Decision(f.ctx, tenantA, k)
		if check(t, err); again || id == "" || when.IsZero() {
			t.Fatal(id, when, again)
		}
		same, then, again, err := db.Decision(f.ctx, tenantA, k)
		if check(t, err); !again || same != id || !then.Equal(when) {
			t.Fatalf("%s at %s, then %s at %s", id, when, same, then)
		}
		if _, _, _, err := db.Decision(f.ctx, tenantA, command.Idempotency{Key: "k", BodyHash: []byte("other")}); !errors.Is(err, command.ErrKeyReused) {
			t.Fatal(err)
		}
		if other, _, again, err := db.Decision(f.ctx, tenantB, k); err != nil || again || other == id {
			t.Fatal(other, again, err)
		}
	})
}
