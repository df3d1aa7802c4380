package mqtt_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/mqtt"
	"meterline/testkit"
)

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }

func TestAPubackAnswersAMessage(t *testing.T) {
	e := startEdge(t, "")
	p, _, _ := start(t, mqtt.PublisherOptions{}, e.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	a := &answers{t: t}
	const n = 500
	for range n {
		a.publish(p, "g-1", "e-1")
	}
	for i, err := range a.all() {
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	for i, pk := range e.got() { // in order
		var m command.Message
		if err := json.Unmarshal(pk.Payload, &m); err != nil {
			t.Fatal(err)
		}
		if pk.TopicName != "meterline/v1/e-1/down/command" || pk.FixedHeader.Qos != 1 || pk.FixedHeader.Retain || m.MessageID != message(i).MessageID {
			t.Fatalf("packet %d: %s %+v", i, pk.TopicName, pk.FixedHeader)
		}
	}
	if got := e.clients[0]; len(e.clients) != 1 || len(got) < 20 || got[:12] != "backend:b-1:" {
		t.Fatalf("client ids %q", e.clients)
	}
}

func TestUnknownAndUnreachableGateways(t *testing.T) {
	e := startEdge(t, "")
	free, err := testkit.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	nobody := command.Gateway{ID: "g-2", Incarnation: "a", Address: free}
	p, _, stop := start(t, mqtt.PublisherOptions{}, e.gateway("g-1", "a"), nobody)
	reachable(t, p, "g-1", true)
	if p.Reachable("g-2") || p.Reachable("g-3") {
		t.Fatal("nobody is reachable")
	}
	a := &answers{t: t}
	a.publish(p, "g-2", "e-1")
	a.publish(p, "g-3", "e-1")
	stop()
	a.publish(p, "g-1", "e-1")
	for i, err := range a.all() {
		if !errors.Is(err, command.ErrGatewayGone) {
			t.Errorf("message %d: %v", i, err)
		}
	}
	if p.Reachable("g-1") {
		t.Error("reachable after the end")
	}
	if len(e.got()) != 0 {
		t.Error("a message came through")
	}
}

func TestAWrongSecretReachesNobody(t *testing.T) {
	e := startEdge(t, "")
	p, _, _ := start(t, mqtt.PublisherOptions{Secret: "wrong"}, e.gateway("g-1", "a"))
	testkit.Eventually(t, waitMost, func() bool { return e.connects() > 1 }, "two attempts")
	if p.Reachable("g-1") {
		t.Fatal("reachable")
	}
}

// A gateway that dies with messages in flight and in the queue: each is answered once, none as handed over, and the
// messages that were surely not sent say so.
func TestAGatewayDiesInMidFlight(t *testing.T) {
	e := startEdge(t, "")
	p, _, _ := start(t, mqtt.PublisherOptions{InFlight: 50}, e.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	acknowledged := &answers{t: t}
	acknowledged.publish(p, "g-1", "e-1")
	if err := acknowledged.all()[0]; err != nil {
		t.Fatal(err)
	}
	e.silent.Store(true)
	a := &answers{t: t}
	for range 200 {
		a.publish(p, "g-1", "e-1")
	}
	testkit.Eventually(t, waitMost, func() bool { return len(e.got()) == 51 }, "50 messages in flight")
	e.kill()
	unknown, unsent := 0, 0
	for i, err := range a.all() {
		switch {
		case err == nil:
			t.Fatalf("message %d passes for handed over", i)
		case errors.Is(err, command.ErrGatewayGone):
			unsent++
		default:
			unknown++
		}
	}
	if unknown != 50 || unsent != 150 {
		t.Fatalf("%d unknown and %d not sent", unknown, unsent)
	}
	reachable(t, p, "g-1", false)

	again := startEdge(t, e.addr)
	reachable(t, p, "g-1", true)
	acknowledged.publish(p, "g-1", "e-1")
	for _, err := range acknowledged.all() {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := again.got(); len(got) != 1 {
		t.Fatalf("%d messages: something was sent again", len(got))
	}
}

func TestAGatewayThatDoesNotAcknowledgeIsGivenUp(t *testing.T) {
	e := startEdge(t, "")
	e.silent.Store(true)
	p, _, _ := start(t, mqtt.PublisherOptions{AckTimeout: 50 * time.Millisecond}, e.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	a := &answers{t: t}
	for range 10 {
		a.publish(p, "g-1", "e-1")
	}
	for i, err := range a.all() {
		if err == nil {
			t.Fatalf("message %d passes for handed over", i)
		}
	}
	e.silent.Store(false)
	reachable(t, p, "g-1", true) // by another connection
	testkit.Eventually(t, waitMost, func() bool {
		b := &answers{t: t}
		b.publish(p, "g-1", "e-1")
		return b.all()[0] == nil
	}, "a message to get through")
}

func TestAFullQueueRefuses(t *testing.T) {
	e := startEdge(t, "")
	e.silent.Store(true)
	p, _, _ := start(t, mqtt.PublisherOptions{InFlight: 2, Queue: 3}, e.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	a := &answers{t: t}
	for range 100 {
		a.publish(p, "g-1", "e-1")
	}
	testkit.Eventually(t, waitMost, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		for _, errs := range a.got {
			if !errors.Is(errs[0], command.ErrGatewayGone) {
				t.Fatalf("refused with %v", errs[0])
			}
		}
		return len(a.got) >= 100-2-1-3 // in flight, in hand, queued
	}, "the rest to be refused")
	e.kill()
	a.all()
}

func TestAnotherIncarnationIsConnectedTo(t *testing.T) {
	one, two := startEdge(t, ""), startEdge(t, "")
	p, d, _ := start(t, mqtt.PublisherOptions{}, one.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	one.silent.Store(true)
	old := &answers{t: t}
	old.publish(p, "g-1", "e-1")
	testkit.Eventually(t, waitMost, func() bool { return len(one.got()) == 1 }, "the message at the old incarnation")
	d.set(nil, two.gateway("g-1", "b"))
	if err := old.all()[0]; err == nil {
		t.Fatal("the old incarnation acknowledged nothing")
	}
	testkit.Eventually(t, waitMost, func() bool { return two.connects() > 0 }, "a connection to the new one") // the old one is not used any more
	reachable(t, p, "g-1", true)
	a := &answers{t: t}
	a.publish(p, "g-1", "e-1")
	if err := a.all()[0]; err != nil {
		t.Fatal(err)
	}
	if len(two.got()) != 1 {
		t.Fatal("went to the old incarnation")
	}
}

// A gateway that is started again answers before the directory has its new incarnation: one connection after the other, and
// one line in the log.
func TestAGatewayThatIsStartedAgainIsToldOfOnce(t *testing.T) {
	var log testkit.Journal
	first := startEdge(t, "")
	p, d, _ := start(t, mqtt.PublisherOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))}, first.gateway("g-1", "a"))
	said := func(what string) int { return strings.Count(log.Text(), what) }
	reachable(t, p, "g-1", true)
	first.kill()
	testkit.Eventually(t, waitMost, func() bool { return said("no connection to a gateway") == 1 }, "the loss is told")
	second := startEdge(t, first.addr)
	reachable(t, p, "g-1", true)
	before := second.connects()
	d.set(nil, second.gateway("g-1", "b"))
	testkit.Eventually(t, waitMost, func() bool { return second.connects() > before }, "the new incarnation to be connected to")
	reachable(t, p, "g-1", true)
	if n := said("connected to a gateway"); n != 2 {
		t.Errorf("told %d times, want twice: at first, and after the loss\n%s", n, log.Text())
	}
}

func TestADirectoryThatFailsOrWasFlushedCutsNoLinks(t *testing.T) {
	e, other := startEdge(t, ""), startEdge(t, "")
	p, d, _ := start(t, mqtt.PublisherOptions{}, e.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	for _, fail := range []error{errors.New("away"), nil} {
		d.set(fail)
		a := &answers{t: t}
		for range 20 {
			a.publish(p, "g-1", "e-1")
			for _, err := range a.all() {
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	d.set(nil, other.gateway("g-2", "a"))
	reachable(t, p, "g-2", true)
	reachable(t, p, "g-1", true)
}

// What was taken is sent within 2 s; a machine that does not get through with it in that time has another try.
func TestStoppingSendsWhatWasTaken(t *testing.T) {
	const n = 100
	for began := time.Now(); ; {
		e := startEdge(t, "")
		p, _, stop := start(t, mqtt.PublisherOptions{InFlight: 3}, e.gateway("g-1", "a"))
		reachable(t, p, "g-1", true)
		a := &answers{t: t}
		for range n {
			a.publish(p, "g-1", "e-1")
		}
		stopped := time.Now()
		stop()
		took := time.Since(stopped)
		failed := slices.DeleteFunc(a.all(), func(err error) bool { return err == nil })
		if len(failed) == 0 && len(e.got()) == n {
			return
		}
		if took < 2*time.Second || time.Since(began) > waitMost {
			t.Fatalf("after %v: %d messages came, of %d it is not known: %v", took, len(e.got()), len(failed), failed)
		}
	}
}

func TestDoneMayPublish(t *testing.T) {
	e := startEdge(t, "")
	p, _, _ := start(t, mqtt.PublisherOptions{}, e.gateway("g-1", "a"))
	reachable(t, p, "g-1", true)
	var mu sync.Mutex // as a worker would hold while it publishes
	a := &answers{t: t}
	over := make(chan struct{})
	mu.Lock()
	for _, g := range []string{"g-1", "nowhere"} {
		p.Publish(t.Context(), g, "e-1", message(0), func(error) {
			mu.Lock()
			defer mu.Unlock()
			a.publish(p, g, "e-1")
			over <- struct{}{}
		})
	}
	mu.Unlock()
	<-over
	<-over
	a.all()
}

// A gateway that stops reading: everything is answered, and nothing is left behind.
func TestAGatewayThatReadsNothingMore(t *testing.T) {
	t.Parallel() // takes as long as a write may
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			open = append(open, conn)
			_, _ = conn.Read(make([]byte, 1024))        // CONNECT
			_, _ = conn.Write([]byte{0x20, 0x02, 0, 0}) // CONNACK
		}
	}()
	defer func() {
		_ = listener.Close()
		<-accepted
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	p, _, stop := start(t, mqtt.PublisherOptions{AckTimeout: 100 * time.Millisecond},
		command.Gateway{ID: "g-1", Incarnation: "a", Address: listener.Addr().String()})
	reachable(t, p, "g-1", true)
	a := &answers{t: t}
	for range 200 {
		a.send(p, "g-1", "e-1", json.RawMessage(`"`+string(bytes.Repeat([]byte("x"), 100_000))+`"`))
	}
	for i, err := range a.all() {
		if err == nil {
			t.Fatalf("message %d passes for handed over", i)
		}
	}
	stop()
}
