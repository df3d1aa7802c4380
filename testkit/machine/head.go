package machine

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// Head is what a report of something that was measured begins with: what was done, to what, where and when. Reports embed it, so
// its fields are at the top of their JSON.
type Head struct {
	Command string    `json:"command"`
	Commit  string    `json:"commit"`
	Machine Machine   `json:"machine"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
}

// Begin is the head of what a program begins to measure now, of the sources as they are.
func Begin(program string, args []string) Head {
	return Head{Command: program + " " + strings.Join(args, " "), Commit: Commit(), Machine: This(), Began: time.Now()}
}

// End notes how long it took.
func (h *Head) End() { h.Seconds = time.Since(h.Began).Seconds() }

// Line is the head for people, to stand below the tables.
func (h *Head) Line() string {
	return fmt.Sprintf("%s, commit %s, %s, %.0f s, `%s`; load before it %s",
		h.Machine, h.Commit, h.Began.UTC().Format(time.RFC3339), h.Seconds, h.Command, h.Machine.Load)
}

// WriteReport writes a report to a file, as JSON for people.
func WriteReport(file string, report any) error {
	out, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return fmt.Errorf("encode report: %w", err)
	}
	if err := os.WriteFile(file, append(out, '\n'), 0o600); err != nil {
		return fmt.Errorf("write report: %w", err)
	}
	return nil
}
