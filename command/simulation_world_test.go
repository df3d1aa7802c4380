package command_test

import (
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"meterline/command"
	"meterline/command/commandtest"
	"meterline/fleet"
	"meterline/state"
)

// world is one schedule of the simulation: some backends, gateways, endpoints and users over one record, one uplink log and one
// live state. One goroutine plays them all, a step at a time; which comes next, how long it takes and what goes wrong is drawn
// from the seed. It lives in a bubble of testing/synctest, so that time passes when it sleeps, and only then.
type world struct {
	seed    uint64
	draw    *rand.Rand
	profile profile
	calm    bool // nothing goes wrong any more
	depth   int  // steps within steps: somebody is held up while others go on

	ledger   *commandtest.Ledger
	log      *commandtest.Log
	live     *state.Memory
	presence map[command.DeviceID]command.Session // as Redis has it
	beats    map[command.Gateway]int64            // as Redis has it

	recordAway, logAway, logUnread time.Time // until when they cannot be reached; the log cannot be read, and can be written

	backends []*backend
	made     int // workers that were ever started
	service  *command.Service
	expander *command.Expander
	gateways []*gateway
	points   []*endpoint
	later    []event // in the order they were put off
	users    users
	check    *checker

	began time.Time
	trace trace
	cover *coverage
}

// profile is what kind of trouble a schedule is in.
type profile struct {
	steps                               int
	crash, fail, doubt, pause           int // of 1000 calls
	lost, late, twice, shed, unacked    int // of 100 messages
	flaky, silent, poison, users, fleet int // of 100 steps, or answers
	flush                               int // of 1000 steps
	workers                             int
	roaming, lazy                       bool // devices move often; what goes to the live state piles up
	wide                                bool // one endpoint with more meters than its window
	hurried                             bool // workers are behind with the log, and somebody waits
	deliveryLease, runTimeout           time.Duration
	recordAhead, logAhead               time.Duration
	shortest, longest                   time.Duration // deadlines
}

func newProfile(r *rand.Rand) profile {
	pick := func(of ...int) int { return of[r.IntN(len(of))] }
	p := profile{
		steps: 60 + r.IntN(160), crash: pick(0, 3, 12, 40), fail: pick(0, 0, 5, 30), doubt: pick(0, 0, 5, 20), pause: pick(0, 3, 15, 50),
		lost: pick(0, 2, 15), late: pick(0, 5, 20), twice: pick(0, 3), shed: pick(0, 10, 40), unacked: pick(0, 5, 30),
		flaky: pick(1, 3), silent: pick(0, 5, 40), poison: pick(0, 4), users: pick(4, 8), fleet: pick(0, 2), flush: pick(0, 0, 0, 3),
		workers: pick(1, 2, 3, 3), wide: r.IntN(25) == 0, roaming: r.IntN(6) == 0, lazy: r.IntN(4) == 0, hurried: r.IntN(3) == 0,
		deliveryLease: 2 * time.Second, runTimeout: 6 * time.Second,
		recordAhead: time.Duration(r.IntN(10_000)-5000) * time.Millisecond, logAhead: time.Duration(r.IntN(10_000)-5000) * time.Millisecond,
		shortest: 4 * time.Second, longest: 40 * time.Second,
	}
	if r.IntN(8) == 0 {
		p.deliveryLease, p.runTimeout, p.longest = 15*time.Second, time.Minute, 5*time.Minute
	}
	return p
}

// event is something that happens later.
type event struct {
	at   time.Time
	what string
	do   func()
}

const (
	partitions = 4
	acme       = fleet.Tenant("acme")
	mostDepth  = 3
)

var user = fleet.Token{ID: "user", Tenant: acme, Scopes: []fleet.Scope{fleet.Admin}}

var quiet = slog.New(slog.DiscardHandler)

// metrics are shared: nobody reads them, and making them is dear.
var metrics = command.NewMetrics(nil)

func newWorld(seed uint64, cover *coverage, tell bool) *world {
	w := &world{
		seed: seed, draw: rand.New(rand.NewPCG(seed, 0x5eed)), live: state.NewMemory(),
		presence: map[command.DeviceID]command.Session{}, beats: map[command.Gateway]int64{}, began: time.Now(), cover: cover,
	}
	w.trace.tell, w.trace.hash = tell, fnv.New64a()
	w.profile = newProfile(w.draw)
	w.ledger = commandtest.NewLedger(partitions, w.now)
	w.log = commandtest.NewLog(partitions, func() time.Time { return time.Now().Add(w.profile.logAhead) })
	w.check = newChecker(w)
	w.ledger.Wrote = w.check.wrote
	w.users.seen = map[command.Key]command.State{}
	w.settle()
	clock := command.NewClock(w.ledger)
	_ = clock.Measure(context.Background())
	w.service = command.NewService(command.ServiceOptions{
		Book: &shelf{w.ledger, w}, Ledger: &shelf{w.ledger, w}, Live: &cache{world: w}, Newest: w.live, Notices: &notices{world: w},
		Clock: clock, Logger: quiet, Partitions: partitions,
	})
	w.expander = command.NewExpander(w.service)
	for i := range w.profile.workers {
		w.backends = append(w.backends, &backend{world: w, name: fmt.Sprint("w", i+1)})
		w.backends[i].start()
	}
	return w
}

// now is the record's clock.
func (w *world) now() time.Time {
	return time.Now().Add(w.profile.recordAhead).UTC().Truncate(time.Microsecond)
}

// chance is true in so many of a hundred cases, and never once all is calm.
func (w *world) chance(percent int) bool { return !w.calm && w.draw.IntN(100) < percent }

// upTo is a time up to d.
func (w *world) upTo(d time.Duration) time.Duration {
	return time.Duration(w.draw.Int64N(int64(d) + 1)).Truncate(time.Microsecond)
}

// sleep lets time pass.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	w.beat()
}

func (w *world) put(d time.Duration, what string, do func()) {
	w.later = append(w.later, event{time.Now().Add(d), what, do})
}

// happen does one of the events whose time has come, not always the first: nothing keeps them in order.
func (w *world) happen() bool {
	var due []int
	for i, e := range w.later {
		if !e.at.After(time.Now()) {
			due = append(due, i)
		}
	}
	if len(due) == 0 {
		return false
	}
	i := due[0]
	if !w.calm {
		i = due[w.draw.IntN(len(due))]
	}
	e := w.later[i]
	w.later = slices.Delete(w.later, i, i+1)
	w.trace.add(e.what)
	e.do()
	return true
}

// run plays the schedule to its end, and then until all is quiet.
func (w *world) run() {
	for range w.profile.steps {
		w.step()
		if w.check.failed() {
			return
		}
	}
	w.heal()
	if !w.check.failed() {
		w.check.atRest()
	}
}

// step lets somebody do something.
func (w *world) step() {
	if w.draw.IntN(1000) < w.profile.flush {
		w.flush()
		return
	}
	if w.profile.roaming && w.draw.IntN(20) == 0 {
		w.reshape()
		return
	}
	switch n := w.draw.IntN(100); {
	case n < 34:
		w.backends[w.draw.IntN(len(w.backends))].round()
	case n < 42:
		w.backends[w.draw.IntN(len(w.backends))].carry()
	case n < 52:
		w.happen()
	case n < 70:
		w.points[w.draw.IntN(len(w.points))].act()
	case n < 84:
		w.pass()
	case n < 84+w.profile.users:
		w.use()
	case n < 93:
		w.poll()
	case n < 95:
		w.expand()
	case n < 95+w.profile.flaky:
		w.stumble()
	case n < 98+w.profile.fleet:
		w.reshape()
	default:
		w.rollCall()
	}
}

// pass lets time pass: mostly a little, now and then longer than any lease.
func (w *world) pass() {
	d := []time.Duration{10 * time.Millisecond, 110 * time.Millisecond, 600 * time.Millisecond, 2100 * time.Millisecond, 9 * time.Second}
	n := d[min(w.draw.IntN(6), w.draw.IntN(6), len(d)-1)]
	w.trace.add("time", n.String())
	w.sleep(n)
}

// interlude holds somebody up for some steps of the others.
func (w *world) interlude() {
	if w.depth >= mostDepth {
		return
	}
	w.depth++
	defer func() { w.depth-- }()
	if w.draw.IntN(4) == 0 {
		w.sleep(8 * time.Second) // longer than the lease of a partition
	}
	for range 1 + w.draw.IntN(6) {
		w.step()
	}
}

func (w *world) expand() {
	found, err := w.expander.ExpandOnce(context.Background())
	w.trace.add("expand", outcome(err))
	if found {
		w.trace.add("more")
	}
}

// flush is FLUSHALL: of everything that is in Redis.
func (w *world) flush() {
	w.trace.add("flush")
	w.check.flushed()
	w.log.Flush()
	w.live = state.NewMemory()
	clear(w.presence)
	clear(w.beats)
}

// heal mends everything and waits until all is quiet, at most until the last deadline has long passed.
func (w *world) heal() {
	w.calm = true
	w.trace.add("heal")
	for _, b := range w.backends {
		if b.worker == nil {
			b.start()
		}
		b.small()
	}
	for _, g := range w.gateways {
		g.start()
	}
	for _, e := range w.points {
		if e.gateway == nil || e.gateway.incarnation != e.incarnation {
			e.connect(w.gateways[0])
		}
	}
	w.check.healed()
	for n := 0; ; n++ {
		w.turn(n)
		if w.check.failed() || w.check.quiet() {
			return
		}
		if n > 800 {
			w.check.fail("it does not become quiet")
			return
		}
	}
}

// turn is a second in which everybody does all that they can.
func (w *world) turn(n int) {
	if n%5 == 0 {
		w.rollCall()
	}
	for range 2 {
		for w.happen() {
		}
		for _, e := range w.points {
			for e.act() {
			}
		}
		w.expand()
		for _, b := range w.backends {
			b.round()
			for i := 0; b.busy && i < 20; i++ {
				b.round()
			}
			b.carry()
		}
		w.sleep(500 * time.Millisecond)
	}
	w.check.deadlines()
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case isCrash(err):
		return "crash"
	}
	return err.Error()
}

// trace is what happened, as a number and, to be told, in words.
type trace struct {
	tell  bool
	hash  hash.Hash64
	lines []string
}

func (t *trace) add(words ...string) {
	for _, word := range words {
		_, _ = t.hash.Write([]byte(word))
	}
	_, _ = t.hash.Write([]byte{0})
	if t.tell {
		t.lines = append(t.lines, strings.Join(words, " "))
	}
}
