//go:build faults

package fault

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Built says whether this program can be broken.
const Built = true

const lookEvery = 20 * time.Millisecond

var (
	plan  atomic.Pointer[Plan] // nil: nothing is planned, which is all that a point costs then
	begin sync.Once
	clock atomic.Int64 // the last offset that somebody went by

	mu     sync.Mutex
	passed = map[string]int{} // by ID: how often its point was passed
	fired  = map[string]bool{}
	asked  = map[Name]bool{} // bugs that were asked for
)

// follow reads the plan, now and whenever its file changes.
func follow() {
	path := os.Getenv("METERLINE_FAULTS")
	if path == "" {
		return
	}
	seen := read(path, "")
	go func() {
		for range time.Tick(lookEvery) {
			seen = read(path, seen)
		}
	}()
}

// read takes over the plan if its text is another one. A plan that cannot be read, or is only half written, is read again.
func read(path, seen string) string {
	text, err := os.ReadFile(path)
	if err != nil || string(text) == seen {
		return seen
	}
	var p Plan
	if json.Unmarshal(text, &p) != nil {
		return seen
	}
	plan.Store(&p)
	return string(text)
}

func current() *Plan {
	begin.Do(follow)
	return plan.Load()
}

// Set replaces the plan of this process: for simulations, which need no file.
func Set(p Plan) {
	begin.Do(func() {})
	mu.Lock()
	defer mu.Unlock()
	clear(passed)
	clear(fired)
	plan.Store(&p)
}

// Point does what is planned for it.
func Point(name Name) {
	p := current()
	if p == nil {
		return
	}
	for _, a := range p.Points {
		if a.Point == name && due(a) {
			fire(a)
		}
	}
}

// due counts the pass, and says whether the point fires.
func due(a Armed) bool {
	mu.Lock()
	defer mu.Unlock()
	if fired[a.ID] {
		return false
	}
	passed[a.ID]++
	fired[a.ID] = passed[a.ID] > a.Skip
	return fired[a.ID]
}

func fire(a Armed) {
	note(Hit{ID: a.ID, Point: a.Point})
	switch a.Action {
	case Kill:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case Stop:
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	case Delay:
		time.Sleep(time.Duration(a.Millis) * time.Millisecond)
	case Panic:
		panic(fmt.Sprintf("fault: %s", a.Point))
	}
}

// Bug says whether a bug is planted.
func Bug(name Name) bool {
	p := current()
	if p == nil || !slices.Contains(p.Bugs, name) {
		return false
	}
	mu.Lock()
	first := !asked[name]
	asked[name] = true
	mu.Unlock()
	if first {
		note(Hit{Bug: name})
	}
	return true
}

// Now is the time by a clock that may be wrong.
func Now() time.Time {
	p := current()
	if p == nil {
		return time.Now()
	}
	if clock.Swap(p.ClockOffset) != p.ClockOffset && p.ClockOffset != 0 {
		note(Hit{ClockOffset: p.ClockOffset})
	}
	return time.Now().Add(time.Duration(p.ClockOffset) * time.Millisecond)
}

// note appends a hit in one write, so that lines of several processes do not mix.
func note(h Hit) {
	path := os.Getenv("METERLINE_FAULTS")
	if path == "" {
		return
	}
	h.PID, h.At = os.Getpid(), time.Now()
	line, err := json.Marshal(h)
	if err != nil {
		return
	}
	f, err := os.OpenFile(path+".hits", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	_, _ = f.Write(append(line, '\n'))
	_ = f.Close()
}
