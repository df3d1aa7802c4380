package machine

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A report that embeds a head has its fields beside its own, in the file too.
func TestReportHasTheHead(t *testing.T) {
	type report struct {
		Head
		Figures []int `json:"figures"`
	}
	r := report{Begin("bench", []string{"all", "-small"}), []int{1, 2}}
	r.End()
	if line := r.Line(); r.Seconds <= 0 || !strings.Contains(line, "`bench all -small`; load") || !strings.HasPrefix(line, r.Machine.String()+", commit "+r.Commit+", ") {
		t.Errorf("%g s: %s", r.Seconds, line)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	if err := WriteReport(file, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var flat map[string]any
	if err := json.Unmarshal(text, &flat); err != nil || flat["command"] != "bench all -small" || flat["figures"] == nil || flat["machine"] == nil {
		t.Errorf("%v: %s", err, text)
	}
	if err := WriteReport(filepath.Join(file, "no"), r); err == nil {
		t.Error("a file below a file was written")
	}
	if err := WriteReport(file, func() {}); err == nil {
		t.Error("a function was written")
	}
}
