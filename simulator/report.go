package simulator

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is what a run came to. Its JSON form is what --json prints; durations are in seconds or, where the name says so,
// milliseconds.
type Report struct {
	Began    time.Time   `json:"began"`
	Ended    time.Time   `json:"ended"`
	Settings Settings    `json:"settings"`
	Fleet    Counters    `json:"fleet"`
	Load     *LoadResult `json:"load,omitempty"`  // nil: none was asked for
	Check    *Verdict    `json:"check,omitempty"` // nil: nothing to compare, or not possible
	Problem  string      `json:"problem,omitempty"`
}

// Settings state under which conditions the figures of a report were measured.
type Settings struct {
	Brokers        []string `json:"brokers"`
	API            string   `json:"api"`
	IPCs           int      `json:"ipcs"`
	MetersPerIPC   int      `json:"meters_per_ipc"`
	BusesPerIPC    int      `json:"buses_per_ipc"`
	Direct         int      `json:"direct"`
	Seed           uint64   `json:"seed"`
	AnswerMin      float64  `json:"answer_min_s"`
	AnswerMax      float64  `json:"answer_max_s"`
	BusTimeoutRate float64  `json:"bus_timeout_rate"`
	BusTimeout     float64  `json:"bus_timeout_s"`
	Faults         Faults   `json:"faults"`
	LateBy         float64  `json:"late_by_s"`
	OfflineFor     float64  `json:"offline_for_s"`
	PushEvery      float64  `json:"push_every_s,omitempty"`
	Rate           float64  `json:"commands_per_s,omitempty"`
	CommandSize    int      `json:"command_size,omitempty"`
	Targets        Targets  `json:"targets,omitempty"`
	Mode           string   `json:"mode,omitempty"`
	Items          []string `json:"items,omitempty"`
	Poll           float64  `json:"poll_s,omitempty"`
	ConnectPerSec  float64  `json:"connects_per_s"`
	GroupCount     int      `json:"results_per_message"`
	GroupDelay     float64  `json:"results_wait_s"`
	InstallSeconds float64  `json:"install_s"` // registering the fleet
	ConnectSeconds float64  `json:"connect_s"` // until all endpoints were subscribed
}

// Passed says that nothing was lost and nothing doubled; what could not be compared has not passed.
func (r Report) Passed() bool { return r.Problem == "" && (r.Check == nil || r.Check.Clean()) }

// Print writes the report as a table for people.
func (r Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", name, fmt.Sprintf(format, args...)) }
	s, f := r.Settings, r.Fleet

	row("fleet", "%d IPCs with %d meters each on %d buses, %d direct meters; seed %d", s.IPCs, s.MetersPerIPC, s.BusesPerIPC, s.Direct, s.Seed)
	row("answer times", "%s to %s a meter, one at a time per bus; %s of bus questions time out after %s",
		seconds(s.AnswerMin), seconds(s.AnswerMax), percent(s.BusTimeoutRate), seconds(s.BusTimeout))
	row("faults", "%s", s.faults())
	row("connected", "%d endpoints in %s, %d connections, %d attempts failed",
		f.Connected, seconds(s.ConnectSeconds), f.Connects, f.ConnectErrors)
	row("operations", "%d asked for, %d carried out, %d repeats, %d over on arrival", f.Operations, f.Acted, f.Repeats, f.Expired)
	row("met", "bus timeouts %d, errors %d, late %d, lost %d, duplicates %d, garbage %d, offline %d",
		f.BusTimeouts, f.Errors, f.Late, f.Lost, f.Duplicates, f.Garbage, f.Offline)
	row("uplinks", "%d messages, %d of them again after a reconnect, %d without PUBACK; %d readings acknowledged",
		f.Published, f.Republished, f.Journal, f.ReadingsAcked)
	if f.RefusedFull+f.BadCommands+f.Forgotten > 0 {
		row("refused", "%d commands for want of room, %d not understood; %d operations forgotten", f.RefusedFull, f.BadCommands, f.Forgotten)
	}
	if r.Load != nil {
		r.Load.print(row, s)
	}
	r.printCheck(row)
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	return nil
}

func (l LoadResult) print(row func(string, string, ...any), s Settings) {
	what := fmt.Sprintf("%d devices", s.CommandSize)
	if s.Targets != TargetIDs {
		what = "target " + string(s.Targets)
	}
	row("load", "%g commands/s for %s, %s each, %s, items %s", s.Rate, seconds(l.Seconds), what, s.Mode, strings.Join(s.Items, " "))
	row("commands", "%d issued, %d refused, %d held back, %d unfinished, %d polls failed", l.Issued, l.Refused, l.HeldBack, l.Unfinished, l.PollErrors)
	c := l.States
	row("states", "succeeded %d, failed %d, expired %d, dead %d, cancelled %d, open %d of %d", c.Succeeded, c.Failed, c.Expired, c.Dead,
		c.Cancelled, c.Queued+c.Sent+c.Delivered+c.Accepted, c.Total)
	if len(l.Codes) > 0 {
		row("codes", "%s", codes(l.Codes))
	}
	row("readings", "%d seen, %.1f readings/s", l.Readings, l.PerSecond)
	row("latency", "%s   POST to reading seen, polled every %s", l.Seen, seconds(s.Poll))
	row("", "%s   POST to reading received by the server", l.Received)
	if l.LastError != "" {
		row("last error", "%s", l.LastError)
	}
}

func (r Report) printCheck(row func(string, string, ...any)) {
	if r.Problem != "" {
		row("problem", "%s", r.Problem)
	}
	if r.Check == nil {
		row("check", "nothing was compared with the record")
		return
	}
	v := r.Check
	row("check", "%d acknowledged readings of %d devices, %d stored", v.Checked, v.Devices, v.Stored)
	row("losses", "%d", v.Losses)
	row("duplicates", "%d", v.Duplicates)
	for _, e := range v.Examples {
		row("", "%s %s %s: %s", e.DeviceID, e.Item, e.ReadAt.Format(time.RFC3339Nano), e.Detail)
	}
}

func (l Latency) String() string {
	return fmt.Sprintf("p50 %.0f ms, p95 %.0f ms, p99 %.0f ms, max %.0f ms", l.P50, l.P95, l.P99, l.Max)
}

func (s Settings) faults() string {
	text := s.Faults.String()
	if s.Faults.Late > 0 {
		text += "; late by " + seconds(s.LateBy)
	}
	if s.Faults.Offline > 0 {
		text += "; offline for " + seconds(s.OfflineFor)
	}
	return text
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d > 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

func codes(counts map[string]int) string {
	var parts []string
	for code, n := range counts {
		parts = append(parts, fmt.Sprintf("%s %d", code, n))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
