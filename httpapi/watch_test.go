package httpapi

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"meterline/command"
)

// http1 is a client whose connections end with their answers.
func http1() *http.Client { return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }

// event is one server-sent event, or a comment.
type event struct {
	id, name, data, comment string
}

// follow opens an event stream; what is read comes out of the channel, which is closed at the end.
func (s *server) follow(headers ...string) (<-chan event, io.Closer) {
	s.t.Helper()
	resp, err := http1().Do(s.request("GET", commandURL+"/events", nil, headers...))
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		s.t.Fatalf("got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	events := make(chan event, 100)
	go func() {
		defer close(events)
		var e event
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				e.id = value
			case "event":
				e.name = value
			case "data":
				e.data = value
			case "":
				if lines.Text() != "" {
					e.comment = value
				}
				if e != (event{}) {
					events <- e
				}
				e = event{}
			}
		}
	}()
	s.t.Cleanup(func() { resp.Body.Close() })
	return events, resp.Body
}

// next is the next event; it waits for it.
func next(t *testing.T, events <-chan event) event {
	t.Helper()
	select {
	case e, ok := <-events:
		if !ok {
			t.Fatal("the stream ended")
		}
		return e
	case <-time.After(time.Minute):
		t.Fatal("no event came")
	}
	return event{}
}

func (e event) operation(t *testing.T) command.OperationView {
	t.Helper()
	var o command.OperationView
	if err := json.Unmarshal([]byte(e.data), &o); err != nil {
		t.Fatalf("%v in %+v", err, e)
	}
	return o
}

func TestTheStreamTellsEachChangeAndEnds(t *testing.T) {
	s := newServer(t, nil)
	s.commands.move(command.Sent, "a", "b", "c")
	events, _ := s.follow()
	last := int64(-1)
	rises := func(e event) {
		t.Helper()
		id, err := strconv.ParseInt(e.id, 10, 64)
		if err != nil || id <= last || id >= 1<<53 {
			t.Errorf("id %q after %d", e.id, last)
		}
		last = id
	}
	for _, device := range []string{"a", "b", "c"} {
		e := next(t, events)
		rises(e)
		if o := e.operation(t); string(o.DeviceID) != device || o.State != command.Sent || len(o.Moves) != 1 || e.name != "" {
			t.Errorf("got %+v", e)
		}
	}
	s.commands.move(command.Succeeded, "b")
	e := next(t, events)
	rises(e)
	if o := e.operation(t); o.DeviceID != "b" || o.State != command.Succeeded {
		t.Errorf("got %+v", e)
	}
	s.commands.end(command.StatusPartial)
	e = next(t, events)
	var v command.View
	if err := json.Unmarshal([]byte(e.data), &v); err != nil || e.name != "end" || v.Status != command.StatusPartial || v.Operations != nil {
		t.Errorf("got %+v, %v", e, err)
	}
	if e, more := <-events; more {
		t.Errorf("after the end came %+v", e)
	}
}

// TestAStreamGoesOnWhereItBroke also holds what breaks between two operations that moved in one transaction.
func TestAStreamGoesOnWhereItBroke(t *testing.T) {
	s := newServer(t, nil)
	s.commands.move(command.Sent, "a", "b", "c")
	events, body := s.follow()
	first, second, third := next(t, events), next(t, events), next(t, events)
	body.Close()
	s.commands.move(command.Succeeded, "a")
	s.commands.end(command.StatusPartial)
	for _, c := range []struct{ last, want string }{
		{first.id, "bca"}, {second.id, "bca"}, {third.id, "a"}, {"", "bca"}, {"0", "bca"},
	} {
		var got strings.Builder
		events, _ := s.follow("Last-Event-ID: " + c.last)
		for e := range events {
			if e.name == "" {
				got.WriteString(string(e.operation(t).DeviceID))
			}
		}
		if got.String() != c.want {
			t.Errorf("after %q: %q, want %q", c.last, got.String(), c.want)
		}
	}
}

func TestASilentStreamShowsThatItLives(t *testing.T) {
	s := newServer(t, func(_ *Options, a *API) {
		if a != nil {
			a.times.heartbeat = 20 * time.Millisecond
		}
	})
	events, body := s.follow()
	for range 2 {
		if e := next(t, events); e.comment == "" {
			t.Errorf("got %+v", e)
		}
	}
	s.commands.move(command.Sent, "a")
	e := next(t, events)
	for e.comment != "" {
		e = next(t, events)
	}
	if e.operation(t).DeviceID != "a" {
		t.Errorf("got %+v", e)
	}
	body.Close()
	until(t, "the stream to be given up", func() bool {
		return strings.Contains(s.do("GET", "/metrics", "").body, "meterline_http_event_streams 0")
	})
}

func TestAStreamOfARecordThatIsAwayEnds(t *testing.T) {
	s := newServer(t, nil)
	events, _ := s.follow()
	s.commands.change(func() { s.commands.fail = command.ErrUnavailable })
	if e, more := <-events; more {
		t.Errorf("got %+v", e)
	}
	if !strings.Contains(s.logs.String(), "request failed") {
		t.Errorf("logged %s", s.logs)
	}
	s.do("GET", commandURL+"/events", "").problem(503, "UNAVAILABLE")
}
