package state_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/state"
	"meterline/testkit"
)

// same compares views as users see them.
func same(t *testing.T, got, want command.View) {
	t.Helper()
	for _, raw := range got.Encoded {
		var o command.OperationView
		ok(t, json.Unmarshal(raw, &o))
		got.Operations = append(got.Operations, o)
	}
	if got.Encoded != nil && got.Operations == nil {
		got.Operations = []command.OperationView{}
	}
	a, err := json.Marshal(got)
	ok(t, err)
	b, err := json.Marshal(want)
	ok(t, err)
	if string(a) != string(b) {
		t.Fatalf("got\n%s\nwant\n%s", a, b)
	}
}

func load(t *testing.T, s liveState, id command.ID, page int) command.View {
	t.Helper()
	v, found, err := s.Load(t.Context(), id, page)
	ok(t, err)
	if !found {
		t.Fatalf("command %s is not there", id)
	}
	return v
}

func missing(t *testing.T, s liveState, id command.ID) {
	t.Helper()
	v, found, err := s.Load(t.Context(), id, 1000)
	ok(t, err)
	if found {
		t.Fatalf("command %s is there: %+v", id, v)
	}
}

func apply(t *testing.T, s liveState, changes ...command.Change) {
	t.Helper()
	ok(t, s.Apply(t.Context(), changes))
}

func TestWhatIsFilledInIsLoaded(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 3)
		missing(t, s, "c-1")
		m.fill(s)
		same(t, load(t, s, "c-1", 1000), m.view())

		want := m.view()
		want.Operations = want.Operations[:2]
		same(t, load(t, s, "c-1", 2), want)
		want.Operations = want.Operations[:0]
		same(t, load(t, s, "c-1", 0), want)
	})
}

func TestChangesInOrder(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 3)
		m.fill(s)
		apply(t, s, m.fail(1))
		same(t, load(t, s, "c-1", 1000), m.view())
		apply(t, s, m.fail(0), m.fail(2)) // the second ends the command
		got := load(t, s, "c-1", 1000)
		same(t, got, m.view())
		if got.FinishedAt == nil || got.Status != command.StatusFailed || got.Errors["BUS_TIMEOUT"] != 3 {
			t.Fatalf("the end is missing: %+v", got)
		}
	})
}

func TestRepeatedAndOldChangesDoNothing(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		m.fill(s)
		first := m.fail(0)
		second := m.fail(1)
		apply(t, s, first, second, first, second)
		same(t, load(t, s, "c-1", 1000), m.view())
	})
}

func TestFoldedChanges(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 3)
		m.fill(s)
		a, b := m.fail(0), m.fail(1)
		b.From, b.Operations = a.From, append(b.Operations, a.Operations...)
		apply(t, s, b)
		same(t, load(t, s, "c-1", 1000), m.view())
	})
}

// withinGrace runs a test on one command after the other until the machine has let one end within the grace of a gap. What has
// a gap for longer is rightly missing, and then the test ends with what load says.
func withinGrace(t *testing.T, s liveState, test func(id command.ID, load func() (command.View, bool)) bool) {
	t.Helper()
	n := 0
	testkit.Eventually(t, time.Minute, func() bool {
		n++
		id, began := command.ID("c-"+strconv.Itoa(n)), time.Now()
		return test(id, func() (command.View, bool) {
			t.Helper()
			v, found, err := s.Load(t.Context(), id, 1000)
			ok(t, err)
			if !found && time.Since(began) <= state.AheadGrace {
				t.Fatalf("command %s is not there after %s", id, time.Since(began))
			}
			return v, found
		})
	}, "a run that the machine did not keep waiting for "+state.AheadGrace.String())
}

func TestAnOvertakingChangeWaitsForTheOneBefore(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		withinGrace(t, s, func(id command.ID, load func() (command.View, bool)) bool {
			m := newModel(t, id, 4)
			m.fill(s)
			before := m.view()
			a, b, c := m.fail(0), m.fail(1), m.fail(2)
			apply(t, s, c, b)
			got, found := load()
			if !found {
				return false
			}
			same(t, got, before) // counts and operations of one moment
			apply(t, s, a)
			if got, found = load(); found {
				same(t, got, m.view())
			}
			return found
		})
	})
}

func TestAChangeThatNeverComesIsReadFromTheRecord(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		m.fill(s)
		lost := m.fail(0)
		apply(t, s, m.fail(1))
		testkit.Eventually(t, time.Minute, func() bool {
			_, found, err := s.Load(t.Context(), "c-1", 1000)
			ok(t, err)
			return !found
		}, "the gap to be noticed")
		m.fill(s)
		same(t, load(t, s, "c-1", 1000), m.view())
		apply(t, s, lost)
		same(t, load(t, s, "c-1", 1000), m.view())
	})
}

func TestChangesThatOverlapWhatIsThereAreDropped(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 3)
		m.fill(s)
		a := m.fail(0)
		b := m.fail(1)
		b.From = a.From // as if folded, but a alone is there already
		apply(t, s, a, b)
		missing(t, s, "c-1")
	})
}

func TestTooManyChangesAheadAreDropped(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 100)
		m.fill(s)
		m.fail(0)
		for i := range 65 {
			apply(t, s, m.fail(1+i))
		}
		missing(t, s, "c-1")
	})
}

func TestChangesOfSeveralOwnersInAnyOrder(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		withinGrace(t, s, func(id command.ID, load func() (command.View, bool)) bool {
			m := newModel(t, id, 40)
			m.fill(s)
			views := map[int64]command.View{1: m.view()}
			var changes []command.Change
			for i := range 40 {
				changes = append(changes, m.fail(i))
				views[m.cmd.Version] = m.view()
			}
			for part := range slices.Chunk(changes, 8) { // a gap must not outlast its grace on a busy machine
				rand.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
			}
			var newest int64
			for _, c := range changes {
				apply(t, s, c)
				v, found := load()
				if !found {
					return false
				}
				same(t, v, views[v.Version])
				newest = v.Version
			}
			if newest != m.cmd.Version {
				t.Fatalf("with all changes it is at version %d of %d", newest, m.cmd.Version)
			}
			return true
		})
	})
}

func TestWhatIsNotCachedStaysSo(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		apply(t, s, m.fail(0))
		missing(t, s, "c-1")
	})
}

func TestAChangeDuringFilling(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		token, err := s.Prepare(t.Context(), "c-1")
		ok(t, err)
		old := m.view()
		apply(t, s, m.fail(0))
		ok(t, s.Fill(t.Context(), token, old))
		missing(t, s, "c-1") // the snapshot lacks the change

		token, err = s.Prepare(t.Context(), "c-1")
		ok(t, err)
		c := m.fail(1)
		snapshot := m.view()
		apply(t, s, c)
		ok(t, s.Fill(t.Context(), token, snapshot))
		same(t, load(t, s, "c-1", 1000), m.view()) // this one has it
	})
}

func TestABulkChangeForgets(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		m.fill(s)
		bulk := func() command.Change {
			c := m.fail()
			c.Operations, c.Bulk = nil, true
			return c
		}
		apply(t, s, bulk())
		missing(t, s, "c-1")

		token, err := s.Prepare(t.Context(), "c-1")
		ok(t, err)
		v := m.view()
		apply(t, s, bulk())
		ok(t, s.Fill(t.Context(), token, v))
		missing(t, s, "c-1")
	})
}

func TestForget(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		a, b := newModel(t, "c-1", 2), newModel(t, "c-2", 2)
		a.fill(s)
		b.fill(s)
		token, err := s.Prepare(t.Context(), "c-3")
		ok(t, err)
		ok(t, s.Forget(t.Context(), []command.ID{"c-1", "c-3", "c-4"}))
		missing(t, s, "c-1")
		load(t, s, "c-2", 1)
		ok(t, s.Fill(t.Context(), token, newModel(t, "c-3", 1).view()))
		missing(t, s, "c-3")
		a.fill(s)
		same(t, load(t, s, "c-1", 1000), a.view())
	})
}

func TestFillersShareATokenAndTheFirstCounts(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		one, err := s.Prepare(t.Context(), "c-1")
		ok(t, err)
		two, err := s.Prepare(t.Context(), "c-1")
		ok(t, err)
		old := m.view()
		ok(t, s.Fill(t.Context(), two, old))
		apply(t, s, m.fail(0))
		ok(t, s.Fill(t.Context(), one, old)) // came late: must not undo
		same(t, load(t, s, "c-1", 1000), m.view())

		three, err := s.Prepare(t.Context(), "c-1") // it is there: good for nothing
		ok(t, err)
		ok(t, s.Fill(t.Context(), three, old))
		ok(t, s.Fill(t.Context(), "", old))
		same(t, load(t, s, "c-1", 1000), m.view())
	})
}

func TestOnlyWholeCommandsUpToTheLimitAreHeld(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 3)
		token, err := s.Prepare(t.Context(), "c-1")
		ok(t, err)
		part := m.view()
		part.Operations = part.Operations[:2]
		ok(t, s.Fill(t.Context(), token, part))
		missing(t, s, "c-1")

		big := newModel(t, "c-2", command.LiveLimit+1)
		big.fill(s)
		missing(t, s, "c-2")

		none := newModel(t, "c-3", 0)
		none.fill(s)
		same(t, load(t, s, "c-3", 10), none.view())
	})
}

func TestLargeCommandsInOrderOfDevices(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", command.LiveLimit)
		want := m.view()
		token, err := s.Prepare(t.Context(), "c-1")
		ok(t, err)
		shuffled := m.view()
		rand.Shuffle(len(shuffled.Operations), func(i, j int) {
			shuffled.Operations[i], shuffled.Operations[j] = shuffled.Operations[j], shuffled.Operations[i]
		})
		ok(t, s.Fill(t.Context(), token, shuffled))
		want.Operations = want.Operations[:1000]
		same(t, load(t, s, "c-1", 1000), want)
	})
}

// Whoever polls while others move and fill in sees whole moments only, and never an older one after a newer.
func TestPollsSeeWholeMoments(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		const devices = 60
		m := newModel(t, "c-1", devices)
		m.fill(s)
		var mu sync.Mutex // the record: one transaction at a time, and snapshots between them
		views := map[int64]command.View{1: m.view()}
		var work sync.WaitGroup
		for owner := range 3 {
			work.Go(func() {
				for i := owner; i < devices; i += 3 {
					mu.Lock()
					c := m.fail(i)
					views[m.cmd.Version] = m.view()
					mu.Unlock()
					if err := s.Apply(t.Context(), []command.Change{c}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { work.Wait(); close(done) }()
		var newest int64
		for over := false; !over; {
			select {
			case <-done:
				over = true
			default:
			}
			v, found, err := s.Load(t.Context(), "c-1", 1000)
			ok(t, err)
			mu.Lock()
			want := views[v.Version]
			mu.Unlock()
			switch {
			case found && v.Version < newest:
				t.Fatalf("version %d after %d", v.Version, newest)
			case found:
				newest = v.Version
				same(t, v, want)
			default:
				token, err := s.Prepare(t.Context(), "c-1")
				ok(t, err)
				mu.Lock()
				snapshot := m.view()
				mu.Unlock()
				ok(t, s.Fill(t.Context(), token, snapshot))
			}
		}
		same(t, load(t, s, "c-1", 1000), m.view())
	})
}

func TestALoadedViewIsTheCallersOwn(t *testing.T) {
	both(t, func(t *testing.T, s liveState) {
		m := newModel(t, "c-1", 2)
		m.fill(s)
		v, before := load(t, s, "c-1", 1000), m.view()
		apply(t, s, m.fail(1))
		same(t, v, before)
		for i := range v.Operations {
			v.Operations[i].State = command.Dead
		}
		same(t, load(t, s, "c-1", 1000), m.view())
	})
}

func TestOperationsBeginWithVersionAndState(t *testing.T) {
	b, err := json.Marshal(newModel(t, "c-1", 1).view().Operations[0])
	ok(t, err)
	if !strings.HasPrefix(string(b), `{"version":1,"state":"queued",`) {
		t.Fatalf("scripts cannot compare %s", b)
	}
}
