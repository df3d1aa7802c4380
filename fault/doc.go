// Package fault lets a test run break the programs where it hurts: at points between two steps, by a clock that is wrong,
// and by planted bugs that the checks of a run have to find.
//
// All of it exists only in programs that are built with the tag faults. Without it [Point] is empty, [Bug] is the constant
// false, [Now] is time.Now, and the compiler leaves nothing of them behind.
//
// With the tag, METERLINE_FAULTS names a file (JSON, see [Plan]) that is read at the start and again whenever it changes,
// looked at every 20 ms. What was hit is appended to the file of the same name with ".hits" added, a line of JSON each
// (see [Hit]), before it takes effect.
package fault

import "time"

// A Name is that of a point or a bug; names.go lists them all.
type Name string

// Plan is what a process is to suffer.
type Plan struct {
	Points []Armed `json:"points,omitempty"`
	Bugs   []Name  `json:"bugs,omitempty"` // planted while they are listed
	// ClockOffset is added to what Now says, in milliseconds.
	ClockOffset int64 `json:"clock_offset_ms,omitempty"`
}

// Armed is a point that does something. Each ID fires once in a process.
type Armed struct {
	ID     string `json:"id"`
	Point  Name   `json:"point"`
	Skip   int    `json:"skip,omitempty"` // how often it is passed before it fires
	Action Action `json:"action"`
	Millis int64  `json:"millis,omitempty"` // of a Delay
}

// Action is what happens at a point.
type Action string

// The actions. Kill is SIGKILL to the own process, Stop is SIGSTOP: whoever armed it sends SIGCONT. Delay holds up the
// caller alone. Panic panics in the caller.
const (
	Kill  Action = "kill"
	Stop  Action = "stop"
	Delay Action = "delay"
	Panic Action = "panic"
)

// Hit is a line of the file of hits.
type Hit struct {
	ID    string `json:"id,omitempty"`
	Point Name   `json:"point,omitempty"`
	Bug   Name   `json:"bug,omitempty"` // written the first time that it was asked for while planted
	// ClockOffset is that of the plan, written the first time that somebody goes by it.
	ClockOffset int64     `json:"clock_offset_ms,omitempty"`
	PID         int       `json:"pid"`
	At          time.Time `json:"at"`
}
