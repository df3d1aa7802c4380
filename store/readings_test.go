package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

func reading(device, item, value string, readAt time.Time) meterread.Reading {
	return meterread.Reading{DeviceID: meterread.DeviceID(device), Item: meterread.Item(item), Value: value, Unit: "kWh",
		ReadAt: readAt, ReceivedAt: readAt.Add(time.Second), Quality: meterread.Valid}
}

func brief(rs []meterread.Reading) []string {
	list := make([]string, len(rs))
	for i, r := range rs {
		list[i] = fmt.Sprintf("%s %s %s %s", r.DeviceID, r.Item, r.Value, r.Quality)
	}
	return list
}

func TestReadingsAndRevisions(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		fence := f.own("w")
		const a = "1-0:1.8.0"
		equal(t, "new", brief(f.read(fence, reading("d1", a, "1.50", noon))), []string{"d1 1-0:1.8.0 1.50 valid"})
		equal(t, "same again", brief(f.read(fence, reading("d1", a, "1.50", noon))), []string{})
		equal(t, "within a microsecond", brief(f.read(fence, reading("d1", a, "1.50", noon.Add(999)))), []string{})
		equal(t, "another value", brief(f.read(fence, reading("d1", a, "1.5", noon))), []string{"d1 1-0:1.8.0 1.5 suspect"})
		equal(t, "both again, a third, twice", brief(f.read(fence, reading("d1", a, "1.5", noon), reading("d1", a, "1.50", noon),
			reading("d1", a, "2", noon), reading("d1", a, "2", noon))), []string{"d1 1-0:1.8.0 2 suspect"})
		later := noon.Add(time.Minute)
		equal(t, "two values in one batch", brief(f.read(fence, reading("d1", a, "7", later), reading("d1", a, "8", later), reading("d1", a, "7", later))),
			[]string{"d1 1-0:1.8.0 7 valid", "d1 1-0:1.8.0 8 suspect"})
		list, err := db.Readings(f.ctx, tenantA, command.ReadingFilter{DeviceID: "d1"}, command.Page{Limit: 10})
		check(t, err)
		equal(t, "list", brief(list.Items), []string{"d1 1-0:1.8.0 8 suspect", "d1 1-0:1.8.0 7 valid",
			"d1 1-0:1.8.0 2 suspect", "d1 1-0:1.8.0 1.5 suspect", "d1 1-0:1.8.0 1.50 valid"})
		if r := list.Items[4]; !r.ReadAt.Equal(noon) || !r.ReceivedAt.Equal(noon.Add(time.Second)) || r.Unit != "kWh" || r.CommandID != "" || r.Late {
			t.Fatalf("reading %+v", r)
		}
		latest, err := db.Latest(f.ctx, tenantA, "d1")
		check(t, err)
		equal(t, "latest", brief(latest), []string{"d1 1-0:1.8.0 8 suspect"})
	})
}

// A meter's clock may stand anywhere; its readings are kept all the same.
func TestReadingsOfStrangeClocks(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		for i, at := range []time.Time{{}, time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1899, 12, 31, 23, 59, 59, 1000, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)} {
			r := reading("d1", "1-0:1.8.0", fmt.Sprint(i), at)
			r.ReceivedAt = noon
			if got := f.read(f.own("w"), r); len(got) != 1 {
				t.Fatalf("reading of %v: %v", at, got)
			}
		}
		list, err := db.Readings(f.ctx, tenantA, command.ReadingFilter{DeviceID: "d1", From: time.Date(1800, 1, 1, 0, 0, 0, 0, time.UTC)}, command.Page{Limit: 10})
		check(t, err)
		equal(t, "values", values(list.Items), []string{"3", "2"})
	})
}

func values(rs []meterread.Reading) []string {
	list := make([]string, len(rs))
	for i, r := range rs {
		list[i] = r.Value
	}
	return list
}

// Two owners, as after a move, store the same and other values at once: no value is lost, none is there twice.
func TestReadingsAtOnce(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		fence := f.own("w")
		var both sync.WaitGroup
		var mu sync.Mutex
		fresh := 0
		for i := range 8 {
			both.Go(func() {
				done, err := db.Change(f.ctx, fence, command.Need{}, func(x *command.Tx) error {
					x.Readings = nil
					for n := range 20 {
						x.Readings = append(x.Readings, reading("d1", "1-0:1.8.0", fmt.Sprint(i%4), noon.Add(time.Duration(n)*time.Second)))
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				fresh += len(done.Readings)
			})
		}
		both.Wait()
		list, err := db.Readings(f.ctx, tenantA, command.ReadingFilter{DeviceID: "d1"}, command.Page{Limit: 1000})
		check(t, err)
		if len(list.Items) != 80 || fresh != 80 {
			t.Fatalf("%d readings are there, %d were new; want 80", len(list.Items), fresh)
		}
	})
}

func TestReadingsListAndCursor(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1", "d2")
		f.direct(tenantB, "b1")
		fence := f.own("w")
		var rs []meterread.Reading
		for n := range 10 {
			for i, item := range []string{"1-0:1.8.0", "1-0:2.8.0", "1-0:32.7.0"} {
				rs = append(rs, reading("d1", item, fmt.Sprint(10*n+i), noon.Add(time.Duration(n)*time.Minute)))
			}
		}
		f.read(fence, append(rs, reading("d2", "1-0:1.8.0", "x", noon), reading("b1", "1-0:1.8.0", "y", noon))...)
		var got []string
		p := command.Page{Limit: 7}
		for {
			list, err := db.Readings(f.ctx, tenantA, command.ReadingFilter{DeviceID: "d1"}, p)
			check(t, err)
			got = append(got, values(list.Items)...)
			if p.Cursor = list.NextCursor; p.Cursor == "" {
				break
			}
		}
		var all []string
		for n := range 10 {
			for i := range 3 {
				all = append(all, fmt.Sprint(10*n+i))
			}
		}
		slices.Reverse(all)
		equal(t, "all pages", got, all)
		list, err := db.Readings(f.ctx, tenantA, command.ReadingFilter{DeviceID: "d1", Item: "1-0:2.8.0", From: noon.Add(2 * time.Minute), To: noon.Add(4 * time.Minute)}, command.Page{Limit: 10})
		check(t, err)
		equal(t, "narrowed", values(list.Items), []string{"31", "21"})
		latest, err := db.Latest(f.ctx, tenantA, "d1")
		check(t, err)
		equal(t, "latest", values(latest), []string{"90", "91", "92"})
		for _, foreign := range []meterread.DeviceID{"b1", "nobody"} {
			list, err := db.Readings(f.ctx, tenantA, command.ReadingFilter{DeviceID: foreign}, command.Page{Limit: 10})
			if err != nil || len(list.Items) != 0 {
				t.Fatalf("readings of %s: %v %v", foreign, list.Items, err)
			}
			if latest, err := db.Latest(f.ctx, tenantA, foreign); err != nil || len(latest) != 0 {
				t.Fatalf("latest of %s: %v %v", foreign, latest, err)
			}
		}
	})
}

// When a device was last read is noted, but not for every reading.
func TestLastReadAt(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		f.direct(tenantA, "d1")
		now, err := db.Now(f.ctx)
		check(t, err)
		last := func() *time.Time {
			t.Helper()
			d, err := db.Device(f.ctx, tenantA, "d1")
			check(t, err)
			return d.LastReadAt
		}
		if last() != nil {
			t.Fatal("a device that was never read was")
		}
		for i, step := range []struct {
			received time.Time
			want     time.Time
		}{
			{now.Add(-time.Hour), now.Add(-time.Hour)},
			{now.Add(-2 * time.Hour), now.Add(-time.Hour)}, // an old one, out of a backlog
			{now.Add(-10 * time.Second), now.Add(-10 * time.Second)},
			{now, now.Add(-10 * time.Second)}, // not a minute old
		} {
			r := reading("d1", "1-0:1.8.0", fmt.Sprint(i), now.Add(time.Duration(i)*time.Second))
			r.ReceivedAt = step.received
			f.read(f.own("w"), r)
			if got := last(); got == nil || !got.Equal(step.want) {
				t.Fatalf("step %d: last read at %v, want %v", i, got, step.want)
			}
		}
	})
}

func TestLettersAndEvents(t *testing.T) {
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		fence := f.own("w")
		store := func(letters []command.DeadLetter, events []command.Event) {
			t.Helper()
			_, err := db.Change(f.ctx, fence, command.Need{}, func(x *command.Tx) error {
				x.DeadLetters, x.Events = letters, events
				return nil
			})
			check(t, err)
		}
		letter := command.DeadLetter{Tenant: tenantA, Source: command.LetterUplink, Cause: "BAD_JSON", Detail: "at\x00 1", EndpointID: "d1",
			Kind: command.UplinkResult, Payload: []byte{0, 0xff, '"', '\\'}, Key: "k1"}
		other := command.DeadLetter{Tenant: tenantB, Source: command.LetterOperation, Cause: "X", Key: "k2"}
		event := command.Event{Tenant: tenantA, EndpointID: "d1", DeviceID: "m1", Type: "alarm", At: noon, Data: []byte(`{"a":"\u0000"}`), Key: "e1"}
		for range 2 { // twice the same
			store([]command.DeadLetter{letter, other}, []command.Event{event, {Tenant: tenantB, EndpointID: "d1", Type: "hello", Key: "e2"},
				{Tenant: tenantA, EndpointID: "d2", DeviceID: "d2", Type: "hello", Key: "e1"}})
		}
		list, err := db.DeadLetters(f.ctx, tenantA, command.DeadLetterFilter{}, command.Page{Limit: 10})
		check(t, err)
		if len(list.Items) != 1 || list.NextCursor != "" {
			t.Fatalf("dead letters %+v", list)
		}
		got := list.Items[0]
		if got.Cause != "BAD_JSON" || got.Detail != "at\uFFFD 1" || !slices.Equal(got.Payload, letter.Payload) || got.Status != command.LetterOpen ||
			got.ID == "" || got.CreatedAt.IsZero() || got.DecidedAt != nil || got.Kind != command.UplinkResult {
			t.Fatalf("dead letter %+v", got)
		}
		if _, err := db.DeadLetter(f.ctx, tenantB, got.ID); err == nil {
			t.Fatal("another tenant's dead letter was shown")
		}
		if n, err := db.Decide(f.ctx, decision(tenantB, command.LetterReplayed), one(got.ID), 1); n != 0 || err != nil {
			t.Fatalf("another tenant decided: %d, %v", n, err)
		}
		d := decision(tenantA, command.LetterReplayed)
		for want := 1; want >= 0; want-- {
			if n, err := db.Decide(f.ctx, d, one(got.ID), 1); n != want || err != nil {
				t.Fatalf("decided %d of %d: %v", n, want, err)
			}
		}
		if got, err = db.DeadLetter(f.ctx, tenantA, got.ID); err != nil || got.Status != command.LetterReplayed || got.DecidedBy != "token-1" || got.DecidedAt == nil ||
			*got.Decision != (command.LetterDecision{ID: d.ID, TokenID: "token-1", TokenName: "night shift", RequestID: "req-1", RemoteAddr: "192.0.2.1:4711"}) {
			t.Fatalf("decided %+v: %v", got, err)
		}
		if list, err = db.DeadLetters(f.ctx, tenantA, command.DeadLetterFilter{Status: command.LetterOpen, Cause: "BAD_JSON"}, command.Page{Limit: 10}); err != nil || len(list.Items) != 0 {
			t.Fatalf("open dead letters %+v: %v", list, err)
		}
		events, err := db.Events(f.ctx, tenantA, command.EventFilter{}, command.Page{Limit: 1})
		check(t, err)
		more, err := db.Events(f.ctx, tenantA, command.EventFilter{}, command.Page{Limit: 1, Cursor: events.NextCursor})
		check(t, err)
		if len(events.Items) != 1 || events.NextCursor == "" || len(more.Items) != 1 || more.NextCursor != "" || events.Items[0].ID == more.Items[0].ID {
			t.Fatalf("events %+v then %+v", events, more)
		}
		alarms, err := db.Events(f.ctx, tenantA, command.EventFilter{DeviceID: "m1", Type: "alarm"}, command.Page{Limit: 10})
		check(t, err)
		if len(alarms.Items) != 1 || string(alarms.Items[0].Data) != `{"a":"\u0000"}` || !alarms.Items[0].At.Equal(noon) {
			t.Fatalf("alarms %+v", alarms)
		}
	})
}
