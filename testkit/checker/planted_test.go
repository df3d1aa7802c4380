//go:build faults

package checker_test

import (
	"context"
	"database/sql"
	"fmt"
	"hash/fnv"
	"slices"
	"testing"
	"time"

	"meterline/fault"
	"meterline/simulator"
	"meterline/testkit/checker"
	"meterline/testkit/history"
	"meterline/testkit/load"
)

// planted are the bugs, what disturbs the run so that they matter, and one of the kinds of violation that tells.
var planted = []struct {
	bug     fault.Name
	disturb func(*town)
	told    []string
	points  []fault.Armed
}{
	{fault.BugPubackFirst, (*town).killRedis, []string{"lost"}, nil},
	{fault.BugSenderByWord, nil, []string{"not sent", "lost", "security event"}, nil},
	{fault.BugDeliveredEarly, nil, []string{"never taken"}, nil},
	{fault.BugOldStays, nil, []string{"old session"}, nil},
	{fault.BugOldReigns, nil, []string{"old session"}, nil},
	{fault.BugTrimByLength, (*town).killBackends, []string{"lost"}, nil},
	{fault.BugSkipAfter, (*town).flushUnread, []string{"lost"}, nil},
	{fault.BugPositionLost, nil, []string{"lost"}, nil},
	{fault.BugPositionApart, (*town).killBackendsOften, []string{"lost"}, nil},
	{fault.BugEndTwice, nil, []string{"two ends", "moves", "counts"}, nil},
	{fault.BugRevisionAlways, nil, []string{"stored twice"}, nil},
	{fault.BugPassedBy, nil, []string{"two ends", "moves", "counts"}, nil},
	{fault.BugKeyIgnored, nil, []string{"key"}, nil},
	{fault.BugCountedTwice, nil, []string{"counts"}, nil},
	{fault.BugAnyTenant, nil, []string{"leak"}, nil},
	{fault.BugOlderOverwrites, nil, []string{"live state", "two ends"}, delays(fault.LiveApply, 60)},
	{fault.BugPartAsWhole, nil, []string{"live state"}, nil},
	{fault.BugAcceptedUnsaved, (*town).cutRecord, []string{"accepted and not there"}, nil},
}

// A bug that is planted is found, within five seeds.
func TestPlantedBugsAreFound(t *testing.T) {
	const seeds = 5
	for _, p := range planted {
		t.Run(string(p.bug), func(t *testing.T) {
			for seed := range uint64(seeds) {
				if r := runPlanted(t, p.bug, p.points, p.disturb, seed+1); r != nil {
					for _, kind := range p.told {
						if r.Counts[kind] > 0 {
							t.Logf("found with seed %d: %s", seed+1, r.Wrong())
							return
						}
					}
					if len(r.Counts) > 0 {
						t.Errorf("seed %d: found, but for another reason: %v", seed+1, r.Violations)
						return
					}
				}
			}
			t.Errorf("not found with %d seeds", seeds)
		})
	}
}

// What disturbs those runs is borne when nothing is planted: what they find is the bug.
func TestDisturbancesAreBorne(t *testing.T) {
	for name, disturb := range map[string]func(*town){
		"redis killed": (*town).killRedis, "backends killed": (*town).killBackendsOften, "flushed": (*town).flushUnread,
		"backend paused": (*town).pauseBackend, "record cut": (*town).cutRecord,
		"live state late": func(w *town) { w.plant(fault.Plan{Points: delays(fault.LiveApply, 60)}) },
	} {
		for _, uplink := range []string{"redis", "store"} {
			t.Run(name+"/"+uplink, func(t *testing.T) {
				w := newTown(t, uplink, 2, 2)
				w.begin(func(o *load.Options) { o.Seed = hashOf(t.Name()) })
				w.uplinks(400)
				disturb(w)
				w.uplinks(2500)
				r := w.judge()
				for _, v := range r.Violations {
					t.Error(v)
				}
			})
		}
	}
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}

// runPlanted gives nil when the bug was not even come by.
func runPlanted(t *testing.T, bug fault.Name, points []fault.Armed, disturb func(*town), seed uint64) (r *checker.Report) {
	t.Run("", func(t *testing.T) {
		w := newTown(t, "redis", 2, 2)
		w.broken = true
		w.plant(fault.Plan{Bugs: []fault.Name{bug}, Points: points})
		w.begin(func(o *load.Options) { o.Seed = seed })
		if disturb != nil {
			w.uplinks(400)
			disturb(w)
		}
		w.uplinks(2500)
		report := w.judge()
		if w.hit(bug) {
			r = &report
		} else {
			t.Log("nothing came by the bug")
		}
	})
	return r
}

// delays holds a point up n times, for half a second each.
func delays(p fault.Name, n int) (all []fault.Armed) {
	for i := range n {
		all = append(all, fault.Armed{ID: fmt.Sprint(p, i), Point: p, Skip: 5 + 7*i, Action: fault.Delay, Millis: 500})
	}
	return all
}

func (w *town) uplinks(n int64) {
	w.reaches("uplinks", n, func(c simulator.Counters) int64 { return c.Published })
}

// plant gives all processes the same plan.
func (w *town) plant(p fault.Plan) {
	w.t.Helper()
	for _, n := range w.Nodes() {
		w.must(n.Arm(p))
	}
}

// hit says whether any process came by a bug while it was planted.
func (w *town) hit(b fault.Name) bool {
	w.t.Helper()
	for _, n := range w.Nodes() {
		hits, err := n.Hits()
		w.must(err)
		if slices.ContainsFunc(hits, func(h fault.Hit) bool { return h.Bug == b }) {
			return true
		}
	}
	return false
}

// breaks notes a fault around f.
func (w *town) breaks(name string, f func()) {
	h, id := w.load.History(), name
	h.Add(history.Event{Actor: "test", Kind: history.Break, Phase: history.OK, ID: id, Fault: &history.Fault{Name: name}})
	f()
	h.Add(history.Event{Actor: "test", Kind: history.Heal, Phase: history.OK, ID: id, Fault: &history.Fault{Name: name}})
}

func wait(d time.Duration) { <-time.After(d) }

// killRedis: what a paused one was sent it would still take.
func (w *town) killRedis() {
	w.breaks("redis killed", func() {
		w.must(w.Redis.Kill())
		wait(5 * time.Second)
		w.must(w.Redis.Start())
	})
}

func (w *town) killBackends() {
	for _, n := range w.Backends {
		w.must(n.Kill())
	}
	wait(2 * time.Second)
	w.start(w.Backends...)
}

func (w *town) killBackendsOften() {
	for range 5 {
		w.breaks("kill backends", w.killBackends)
	}
}

// flushUnread flushes Redis while nobody reads the log, and lets more come before anybody does.
func (w *town) flushUnread() {
	for _, n := range w.Backends {
		w.must(n.Kill())
	}
	w.breaks(history.Flush, func() { w.must(w.Redis.FlushAll(w.t.Context())) }) // noted before and, as healed, after
	w.load.History().Add(history.Event{Actor: "test", Kind: history.Break, Phase: history.OK, ID: history.Flush,
		Fault: &history.Fault{Name: history.Flush}})
	wait(2 * time.Second)
	w.start(w.Backends...)
}

// pauseBackend lets a backend lose its partitions without knowing it.
func (w *town) pauseBackend() {
	w.breaks("backend paused", func() {
		w.must(w.Backends[0].Pause())
		wait(15 * time.Second)
		w.must(w.Backends[0].Resume())
	})
}

// cutRecord ends all connections to the record, again and again.
func (w *town) cutRecord() {
	db, err := sql.Open("postgres", w.DatabaseURL)
	if err != nil {
		w.t.Fatal(err)
	}
	defer db.Close()
	w.breaks("record cut", func() {
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		for ctx.Err() == nil {
			_, _ = db.ExecContext(ctx, `
				SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)
			wait(20 * time.Millisecond)
		}
	})
}
