package main

import (
	"net/http"
	"slices"
	"time"

	"meterline/testkit/history"
)

// story is what users and devices saw, from the history of a run and the samples taken beside it. Times are since the
// run's start.
type story struct {
	start                time.Time
	samples              *sampler
	began, healed, until time.Duration

	posts, polls []request
	pubacks      []puback
	ended        []time.Duration // operations, when a poll showed it for the first time
	lost, back   []time.Duration // connections of endpoints; those that the load cut are not in lost
}

// request is one request of a user.
type request struct {
	at, took time.Duration // at: when the answer came, or was given up
	status   int           // 0: none came
	again    bool          // it said when to come again
}

func (r request) taken() bool { return r.status >= 200 && r.status < 300 }

// refused says that the answer was to come again later.
func (r request) refused() bool { return r.status == http.StatusServiceUnavailable }

// puback is one uplink that was acknowledged, however often it was sent.
type puback struct {
	endpoint string
	at, took time.Duration
}

// read takes a history in, up to the end of the story.
func (s *story) read(dir string) error {
	t := teller{story: s, published: map[string]time.Duration{}, over: map[string]bool{}, twins: map[string]time.Duration{}}
	for e, err := range history.Read(dir) {
		if err != nil {
			return err
		}
		if e.T <= s.until {
			t.take(e)
		}
	}
	for _, requests := range [][]request{s.posts, s.polls} {
		slices.SortFunc(requests, func(a, b request) int { return int(a.at - b.at) })
	}
	return nil
}

// teller turns events into a story.
type teller struct {
	*story
	published map[string]time.Duration // uplinks, for the first time
	over      map[string]bool          // operations that a poll showed the end of
	twins     map[string]time.Duration // the newest of an endpoint
}

func (t *teller) take(e history.Event) {
	switch {
	case e.Kind == history.Post && e.Phase != history.Invoke:
		t.posts = append(t.posts, asked(e))
	case e.Kind == history.Poll:
		t.polls = append(t.polls, asked(e))
		t.ends(e)
	case e.Kind == history.Uplink && e.Phase == history.Invoke:
		t.published[e.ID] = e.T
	case e.Kind == history.Uplink:
		t.pubacks = append(t.pubacks, puback{e.Actor, e.T, e.T - t.published[e.ID]})
	case e.Kind == history.Twin:
		t.twins[e.Actor] = e.T
	case e.Kind == history.Connect && e.Phase == history.OK:
		t.back = append(t.back, e.T)
	case e.Kind == history.Connect && !t.byLoad(e):
		t.lost = append(t.lost, e.T)
	}
}

func asked(e history.Event) request {
	return request{at: e.T, took: e.Call.Took, status: e.Call.Status, again: e.Call.RetryAfter != ""}
}

// byLoad says whether the load itself ended a connection: it cuts some, lets some go offline, and makes twins.
func (t *teller) byLoad(e history.Event) bool {
	const makesWay = 3 * time.Second
	twin, some := t.twins[e.Actor]
	return slices.Contains([]string{"cut", "offline", "done"}, e.Message.Reason) || some && e.T-twin < makesWay
}

var terminal = []string{"succeeded", "failed", "expired", "cancelled", "dead"}

func (t *teller) ends(e history.Event) {
	for device, state := range e.Call.States {
		if k := e.ID + "/" + device; slices.Contains(terminal, state) && !t.over[k] {
			t.over[k] = true
			t.ended = append(t.ended, e.T)
		}
	}
}
