package history

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

func all(t *testing.T, dir string) []Event {
	t.Helper()
	var es []Event
	for e, err := range Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		es = append(es, e)
	}
	return es
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "run")
	start := time.Now()
	var files sync.WaitGroup
	for _, process := range []string{"devices", "clients"} {
		w, err := Create(dir, process, start)
		if err != nil {
			t.Fatal(err)
		}
		files.Go(func() {
			var writers sync.WaitGroup
			for i := range 4 {
				writers.Go(func() {
					for n := range 250 {
						m := &Message{Channel: "readings"}
						m.SetBody([]byte(`{"v":1}`))
						w.Add(Event{Actor: strconv.Itoa(i), Kind: Uplink, Phase: Invoke, ID: strconv.Itoa(n), Message: m})
					}
				})
			}
			writers.Wait()
			if err := w.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	files.Wait()
	next := map[string]int{}
	last := map[string]time.Duration{}
	for _, e := range all(t, dir) {
		who := e.Process + e.Actor
		if e.Kind == Begin {
			continue
		}
		if e.ID != strconv.Itoa(next[who]) || string(e.Message.Body()) != `{"v":1}` || e.T < last[who] || e.At.IsZero() {
			t.Fatalf("%s: %+v after %d", e.Line, e, next[who])
		}
		next[who]++
		last[who] = e.T
	}
	if len(next) != 8 || next["devices0"] != 250 {
		t.Fatal(next)
	}
}

// Payloads come back byte for byte, whatever they are.
func TestPayloadsAreKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := Create(dir, "p", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	bodies := []string{`{"v":1,"a":[1,2]}`, `{ "v" : 1 }`, "{\"v\":1}\n", `{"v":`, "\xff\xfe", `{"a":"<&>"}`, "{\"a\":\"\u2028\"}", ""}
	for _, b := range bodies {
		var m Message
		m.SetBody([]byte(b))
		w.Add(Event{Kind: Uplink, Message: &m})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for i, e := range all(t, dir)[1:] {
		if got := string(e.Message.Body()); got != bodies[i] {
			t.Errorf("%q came back as %q", bodies[i], got)
		}
	}
}

func TestALineThatWasCutOffIsLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "killed"+Extension)
	if err := os.WriteFile(file, []byte("{\"kind\":\"poll\"}\n{\"kind\":\"po"), 0o600); err != nil {
		t.Fatal(err)
	}
	if es := all(t, dir); len(es) != 1 || es[0].Kind != Poll || es[0].Line != "killed.jsonl:1" {
		t.Fatalf("%+v", es)
	}
	if err := os.WriteFile(file, []byte("{\"kind\":\"po\n{\"kind\":\"poll\"}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var told error
	for _, err := range Read(dir) {
		told = err
	}
	if told == nil {
		t.Error("a broken line in the middle was not noticed")
	}
	for _, err := range Read(t.TempDir()) {
		if err == nil {
			t.Error("an empty directory is a history")
		}
	}
}

func TestWhatIsWrittenAfterTheEndIsAnError(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w, err := Create(dir, "p", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Create(dir, "p", time.Now()); err == nil {
		t.Error("two processes write one file")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.Add(Event{Kind: Poll})
	if es := all(t, dir); len(es) != 1 {
		t.Fatalf("%+v", es)
	}
}

func BenchmarkAdd(b *testing.B) {
	w, err := Create(b.TempDir(), "p", time.Now())
	if err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"v":1,"message_id":"0194","readings":[{"device_id":"m-1","item":"1-0:1.8.0","value":"1.5","unit":"kWh","read_at":"2026-01-01T00:00:00Z"}]}`)
	for b.Loop() {
		m := &Message{Channel: "readings"}
		m.SetBody(body)
		w.Add(Event{Actor: "m-1", Kind: Uplink, Phase: Invoke, ID: "0194", Message: m})
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
}
