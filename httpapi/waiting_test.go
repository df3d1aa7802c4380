package httpapi

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/testkit"
)

// TestTooManyWaiting: requests that may wait are bounded, others are answered all the same.
func TestTooManyWaiting(t *testing.T) {
	s := newServer(t, func(_ *Options, a *API) {
		if a != nil {
			a.mostWaiting = 1
		}
	})
	later := s.later("GET", commandURL+"?wait=60", "")
	until(t, "the request to wait", func() bool {
		s.commands.mu.Lock()
		defer s.commands.mu.Unlock()
		return len(s.commands.waited) == 1
	})
	a := s.do("GET", commandURL+"?wait=60", "").is(503)
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, "TOO_MANY_WAITING") {
		t.Errorf("got %v %s", a.header, a.body)
	}
	s.do("GET", "/v1/devices", "").is(200)
	s.commands.end(command.StatusSucceeded)
	later().is(200)
	s.do("GET", commandURL+"?wait=1", "").is(200)
}

// TestAStreamThatIsNotReadIsCut: a client that stops reading holds up nobody, and not for long.
func TestAStreamThatIsNotReadIsCut(t *testing.T) {
	s := newServer(t, func(_ *Options, a *API) {
		if a != nil {
			a.times.write = 2 * time.Second // the stream itself must not stand still so long
		}
	})
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(c, "GET %s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", commandURL, s.admin)
	streams := func() string { return s.do("GET", "/metrics", "").body }
	until(t, "the stream to begin", func() bool { return strings.Contains(streams(), "meterline_http_event_streams 1") })
	ids := make([]meterread.DeviceID, 500)
	for i := range ids {
		ids[i] = meterread.DeviceID(strings.Repeat("d", 50) + strconv.Itoa(i))
	}
	pulse := testkit.StartPulse(t)
	until(t, "the client to be cut", func() bool {
		began := time.Now()
		s.commands.move(command.Sent, ids...)
		if took := time.Since(began); took > pulse.Limit(time.Second) {
			t.Errorf("a move took %v", took)
		}
		return strings.Contains(streams(), "meterline_http_event_streams 0")
	})
}
