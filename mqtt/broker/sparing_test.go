package broker

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestSparingLogsTheFirstAndTellsHowManyItLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := newSparing(slog.New(slog.NewTextHandler(&out, nil)))
		lines := func() []string {
			defer out.Reset()
			return strings.Split(strings.TrimSpace(out.String()), "\n")
		}
		for range 1000 {
			s.say(slog.LevelInfo, "credentials", "client refused")
		}
		s.say(slog.LevelInfo, "will", "client refused", "of", "another kind")
		if got := lines(); len(got) != sparingBurst+1 || !strings.Contains(got[sparingBurst], "another kind") {
			t.Fatalf("a thousand lines of one kind and one of another left %d in the log:\n%s", len(got), strings.Join(got, "\n"))
		}
		time.Sleep(sparingPause)
		s.say(slog.LevelInfo, "credentials", "client refused")
		s.say(slog.LevelInfo, "credentials", "client refused")
		if got := lines(); len(got) != 1 || !strings.HasSuffix(got[0], "left_out=990") {
			t.Fatalf("after %v the log says:\n%s", sparingPause, strings.Join(got, "\n"))
		}
		s.say(slog.LevelDebug, "credentials", "not logged at all")
		time.Sleep(sparingPause)
		s.say(slog.LevelInfo, "credentials", "client refused")
		if got := lines(); len(got) != 1 || !strings.HasSuffix(got[0], "left_out=1") {
			t.Fatalf("a line below the log's level was counted, or one was not:\n%s", strings.Join(got, "\n"))
		}
	})
}
