package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"meterline/testkit"
	"meterline/testkit/history"
)

func TestMistakes(t *testing.T) {
	t.Parallel()
	for args, says := range map[string]string{
		"": "-what", "-what gateway": "-what", "-what redis -how burn": "-how", "-what redis -how flush": "-how", "-what redis -for 0s": "-for",
		"-what flush -rate 0": "-rate", "-what flush -uplink file": "-uplink", "-what flush now": `"now"`,
	} {
		var stderr bytes.Buffer
		if status := run(t.Context(), strings.Fields(args), &stderr, &stderr); status != 2 || !strings.Contains(stderr.String(), says) {
			t.Errorf("%s: status %d: %s", args, status, &stderr)
		}
	}
}

// A short outage of PostgreSQL, with everything that a long one has: refused POSTs, uplinks acknowledged all the time, seconds
// before and after, and a check at the end that finds nothing wrong.
func TestAnOutageIsToldSecondBySecond(t *testing.T) {
	_ = testkit.Redis(t) // without the servers all of this is skipped
	o, err := parse(strings.Fields("-what postgres -for 4s -before 1s -after 10s -rate 60 -dir "+t.TempDir()), os.Stderr)
	testkit.Need(t, err)
	r, err := o.perform(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := r.tell(&out); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	rows := r.story.rows()
	if rows[0].from != -2 && rows[0].from != -1 || rows[len(rows)-1].to < 4 {
		t.Errorf("seconds %d to %d", rows[0].from, rows[len(rows)-1].to)
	}
	var during, after row
	for _, one := range rows {
		if at := r.story.second(r.story.healed); one.from > 0 && one.to < at {
			during = during.with(one)
		} else if one.from > at {
			after = after.with(one)
		}
	}
	if during.posts.refused == 0 || during.posts.taken > 0 || during.posts.bare > 0 || during.pubacks == 0 || during.sample.ready == 4 {
		t.Errorf("while PostgreSQL was away: %+v", during)
	}
	if after.posts.taken == 0 || after.ended == 0 || after.pubacks == 0 || after.sample.ready != 4 || after.sample.open < 0 {
		t.Errorf("when it was back: %+v", after)
	}
	if c := r.report; c.AckedUplinks == 0 || c.Commands == 0 || c.Operations == 0 || len(c.Faults) != 1 || !strings.Contains(out.String(), "| ok |") {
		t.Errorf("the check came to %+v", c)
	}
	if text, err := os.ReadFile(r.file); err != nil || strings.Count(string(text), "\n") != 2+len(rows) {
		t.Errorf("all seconds: %v, %q", err, text)
	}
}

// told is a story of an outage from 2 s to 3 s.
func told(t *testing.T, tell func(add func(history.Event))) *story {
	t.Helper()
	dir := t.TempDir()
	w, err := history.Create(dir, "load", time.Now())
	testkit.Need(t, err)
	tell(w.Add)
	testkit.Need(t, w.Close())
	s := &story{samples: &sampler{processes: 4}, until: time.Hour}
	testkit.Need(t, s.read(dir))
	s.began, s.healed, s.until = 2*time.Second, 3*time.Second, 4*time.Second
	return s
}

// What a history holds is what is counted; connections that the load itself ends are not.
func TestAStoryIsReadFromTheHistory(t *testing.T) {
	t.Parallel()
	s := told(t, func(add func(history.Event)) {
		post := func(status int, after string) {
			add(history.Event{Actor: "c", Kind: history.Post, Phase: history.Invoke, ID: "k", Call: &history.Call{}})
			add(history.Event{Actor: "c", Kind: history.Post, Phase: history.OK, ID: "k",
				Call: &history.Call{Status: status, Took: time.Duration(status), RetryAfter: after}})
		}
		post(202, "1")
		post(503, "")
		post(0, "")
		for _, states := range []map[string]string{{"a": "sent", "b": "failed"}, {"a": "succeeded", "b": "failed"}} {
			add(history.Event{Kind: history.Poll, Phase: history.OK, ID: "1", Call: &history.Call{Status: 200, States: states}})
		}
		add(history.Event{Kind: history.Uplink, Phase: history.Invoke, ID: "u", Message: &history.Message{}})
		add(history.Event{Kind: history.Uplink, Phase: history.OK, ID: "u"})
		for _, reason := range []string{"cut", "offline", "EOF"} {
			add(history.Event{Actor: "d", Kind: history.Connect, Phase: history.Fail, Message: &history.Message{Reason: reason}})
		}
		add(history.Event{Actor: "e", Kind: history.Twin, Phase: history.OK})
		add(history.Event{Actor: "e", Kind: history.Connect, Phase: history.Fail, Message: &history.Message{Reason: "EOF"}})
		add(history.Event{Actor: "d", Kind: history.Connect, Phase: history.OK})
	})
	var c calls
	for _, r := range s.posts {
		c.add(r)
	}
	if c.taken != 1 || c.refused != 1 || c.none != 1 || c.bare != 1 || c.most() != 503 || c.median() != 202 {
		t.Errorf("POSTs: %+v", c)
	}
	if len(s.polls) != 2 || len(s.ended) != 2 || len(s.pubacks) != 1 || len(s.lost) != 1 || len(s.back) != 1 {
		t.Errorf("%+v", s)
	}
}

func at(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// A second has what was answered in it, and what waited at its end.
func TestRows(t *testing.T) {
	t.Parallel()
	s := told(t, func(func(history.Event)) {})
	s.posts = []request{{at: at(1.5), took: at(0.1), status: 202}, {at: at(2.5), took: at(0.4), status: 503, again: true}, {at: at(3.2), took: at(1), status: 202}}
	s.pubacks = []puback{{"a", at(1.2), at(0.1)}, {"a", at(3.9), at(2)}, {"a", at(3.95), at(0)}}
	s.lost = []time.Duration{at(2.5), at(3.25)}
	s.ended = []time.Duration{at(1.9), at(3.5)}
	s.samples.samples = []sample{{at: at(1.1), open: 3, failed: 1, ready: 4}, {at: at(2.1), failed: 4, ready: 2}, {at: at(2.6), failed: 6, ready: 1},
		{at: at(3.1), ready: 4, open: 7, failed: 6}, {at: at(3.6), ready: 4, oldest: 0.5, open: 8, failed: 6}}
	rows := s.rows()
	if len(rows) != 3 || rows[0].from != -1 || rows[1].from != 0 {
		t.Fatalf("%+v", rows)
	}
	if r := rows[1]; r.posts.refused != 1 || r.posts.waiting != 1 || r.failed != 5 || r.sample.ready != 1 || r.pubacks != 0 {
		t.Errorf("%+v", r)
	}
	if r := rows[2]; r.posts.taken != 1 || r.posts.waiting != 0 || r.slowest != at(2) || r.ended != 1 || r.sample.open != 8 {
		t.Errorf("%+v", r)
	}
	var out strings.Builder
	s.summary(&out)
	for _, line := range []string{
		"| POST: 2xx, 503, 429, other, no answer | 1, 1, 0, 0, 0 |", "| POST refused with 503 | from 0.5 s to 0.5 s, 0 without Retry-After |",
		"| 1.7 s, 2.7 s, 1.6 s |", "first operation seen to end | 0.2 s, 0.9 s, 0.5 s |", "| none, none |", "| 0.1 s, 0.1 s, 0.1 s |", "every endpoint had a PUBACK | 0.2 s, 0.9 s |",
	} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("there is no %q in\n%s", line, &out)
		}
	}
}

// Seconds that tell the same are one row, but not across the moments that matter.
func TestRowsAreFolded(t *testing.T) {
	t.Parallel()
	var rows []row
	for n := -2; n < 20; n++ {
		r := row{from: n, to: n, pubacks: 10, sample: sample{kept: int64(n)}}
		r.posts.add(request{status: 202, took: time.Duration(n+3) * time.Millisecond})
		rows = append(rows, r)
	}
	rows[16].posts.add(request{status: 503})
	few := folded(rows, 0)
	var names []string
	for _, r := range few {
		names = append(names, r.cells()[0])
	}
	if got := strings.Join(names, ", "); got != "-2 to -1, 0, 1, 2, 3, 4 to 13, 14, 15 to 19" {
		t.Errorf("rows %s", got)
	}
	if c := few[0].cells(); c[1] != "1.0" || c[8] != "2" || few[0].sample.kept != -1 {
		t.Errorf("%q, kept %d", c, few[0].sample.kept)
	}
	var out strings.Builder
	table(&out, few)
	if strings.Contains(out.String(), "429") || !strings.Contains(out.String(), "503") {
		t.Errorf("columns with nothing in them are there, or others are not:\n%s", &out)
	}
}
