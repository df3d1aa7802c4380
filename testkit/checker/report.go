package checker

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"meterline/testkit/history"
)

// Report is what a run came to.
type Report struct {
	Uplinks       int `json:"uplinks"`              // messages published
	AckedUplinks  int `json:"acknowledged_uplinks"` // of those
	Readings      int `json:"readings"`             // distinct ones handed in
	AckedReadings int `json:"acknowledged_readings"`
	Stored        int `json:"stored_readings"`
	AtDevice      int `json:"at_device"` // neither acknowledged nor stored

	Loaded    time.Duration `json:"loaded_ns"`                  // for so long devices handed in readings, faults included
	UnderLoad int           `json:"stored_readings_under_load"` // of those stored: acknowledged in that time

	Lost        int `json:"lost"`         // readings, events and dead letters: acknowledged and not stored
	Twice       int `json:"stored_twice"` // readings
	FlushLosses int `json:"lost_by_flush"`

	Commands     int `json:"commands"`
	Operations   int `json:"operations"`
	Endless      int `json:"operations_without_end"`
	TwoEnds      int `json:"operations_with_two_ends"`
	AskedAgain   int `json:"operations_asked_again"` // after the PUBACK of their answer: harmless, but not wanted
	DeadLetters  int `json:"dead_letters"`
	LateReadings int `json:"late_readings"`

	Resends    int `json:"resends"`
	Duplicates int `json:"duplicates_on_the_wire"` // resends, and what was published twice at once

	Faults     []FaultCount  `json:"faults,omitempty"`
	Recoveries []Recovery    `json:"recoveries,omitempty"`
	Longest    time.Duration `json:"longest_recovery_ns"`

	Void       []string       `json:"void,omitempty"` // why the run proves nothing
	Counts     map[string]int `json:"violation_counts,omitempty"`
	Violations []Violation    `json:"violations,omitempty"` // the first of each kind
	Took       time.Duration  `json:"took_ns"`              // from the call to the end of the judgement
}

// Violation is something that history and record cannot both be right about.
type Violation struct {
	Rule  int            `json:"rule"` // 1 to 12, as listed at the top of rules.go
	Kind  string         `json:"kind"`
	IDs   string         `json:"ids"`
	Text  string         `json:"text"`
	Lines []history.Line `json:"lines,omitempty"`
}

func (v Violation) String() string {
	text := fmt.Sprintf("%d %s: %s: %s", v.Rule, v.Kind, v.IDs, v.Text)
	for _, l := range v.Lines {
		text += " [" + string(l) + "]"
	}
	return text
}

// FaultCount is how often a fault was armed, and how often it is known to have happened.
type FaultCount struct {
	Name  string `json:"name"`
	Armed int    `json:"armed"`
	Hit   int    `json:"hit"`
}

// Recovery is how long it took from the end of a fault to the first uplink that was acknowledged, the first command that was
// accepted and the first command that was seen to have ended. A negative one means that there was none.
type Recovery struct {
	Fault    string        `json:"fault"`
	Uplink   time.Duration `json:"uplink_ns"`
	Accepted time.Duration `json:"accepted_ns"`
	Ended    time.Duration `json:"ended_ns"`
}

// shownMost is how many violations of a kind are listed.
const shownMost = 10

func (r *Report) violate(rule int, kind, ids, text string, lines ...history.Line) {
	if r.Counts == nil {
		r.Counts = map[string]int{}
	}
	r.Counts[kind]++
	if r.Counts[kind] <= shownMost {
		lines = slices.DeleteFunc(slices.Clone(lines), func(l history.Line) bool { return l == "" })
		r.Violations = append(r.Violations, Violation{rule, kind, ids, text, lines})
	}
}

// OK says whether the run counts and nothing is wrong.
func (r *Report) OK() bool { return len(r.Void) == 0 && len(r.Counts) == 0 }

// Wrong sums the violations up, in order of their kinds.
func (r *Report) Wrong() string {
	var parts []string
	for kind, n := range r.Counts {
		parts = append(parts, fmt.Sprintf("%d %s", n, kind))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// PerSecond is how many readings a second were acknowledged while the load lasted, and are stored; 0 without a load.
func (r *Report) PerSecond() float64 {
	if r.Loaded <= 0 {
		return 0
	}
	return float64(r.UnderLoad) / r.Loaded.Seconds()
}

// Head is the head of a table of [Report.Row]s, in Markdown.
const Head = `| run | acknowledged uplinks | readings stored | stored per second of load | lost | stored twice | without end | two ends | lost by flush | duplicates on the wire | faults hit | longest recovery | verdict |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
`

// Row is the report as a row of a table.
func (r *Report) Row(name string) string {
	hit := 0
	for _, f := range r.Faults {
		hit += f.Hit
	}
	verdict := "ok"
	if len(r.Counts) > 0 {
		verdict = r.Wrong()
	} else if len(r.Void) > 0 {
		verdict = "void: " + strings.Join(r.Void, "; ")
	}
	return fmt.Sprintf("| %s | %d | %d | %.0f | %d | %d | %d | %d | %d | %d | %d | %.1f s | %s |\n", name, r.AckedUplinks, r.Stored, r.PerSecond(),
		r.Lost, r.Twice, r.Endless, r.TwoEnds, r.FlushLosses, r.Duplicates, hit, r.Longest.Seconds(), verdict)
}
