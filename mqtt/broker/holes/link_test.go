package holes_test

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"meterline/testkit"
)

var overflowing = []uint16{43691, 65535} // half as much again does not fit 16 bits

func keepAlivePlain(t *testing.T) {
	at := plain(t)
	h := service("dev")
	h.keepAlive = overflowing[0]
	c := open(t, at, h)
	c.hello(h)
	if c.alive(waitMost) {
		gone(t, "a ping is answered")
	}
	t.Logf("keep-alive %d s: closed at once", h.keepAlive)
}

// lasting wants a client with a keep-alive that is too long for mochi to be served, and told in MQTT 5.
func lasting(t *testing.T, at string, h hello) {
	for _, h.keepAlive = range overflowing {
		for _, h := range []hello{h, h.five()} {
			c := connect(t, at, h)
			if !c.alive(waitMost) {
				t.Errorf("keep-alive %d, version %d: closed", h.keepAlive, h.version)
			}
			if told := c.connack.Properties.ServerKeepAlive; h.version == 5 && (told == 0 || told > 3600) {
				t.Errorf("told to keep alive every %d s", told)
			}
			c.leave()
		}
	}
}

func keepAliveEndpoint(t *testing.T) { lasting(t, ours(t).address(), endpoint("d1")) }
func keepAliveService(t *testing.T)  { lasting(t, ours(t).address(), service("dev")) }

const fewFiles = 40

// exhaust opens connections until the broker cannot accept any more, then closes them all.
func exhaust(t *testing.T, at string) (served int) {
	var all []*client
	for i := range 2 * fewFiles {
		h := service(fmt.Sprintf("dev%d", i))
		c, err := tryOpen(t, at, h)
		if err != nil {
			break // closed at once
		}
		all = append(all, c)
		if err := c.tryHello(h); err != nil {
			break // likewise
		}
		if _, err := c.next(10 * silence); err != nil { // one that is only late must not pass for the end
			break
		}
		served++
	}
	if served == 2*fewFiles {
		t.Fatal("all were accepted")
	}
	for _, c := range all {
		c.die()
	}
	return served
}

func descriptorsPlain(t *testing.T) {
	const patience = 2 * time.Second
	c := spawn(t, spec{Files: fewFiles})
	served := exhaust(t, c.at)
	again := open(t, c.at, service("again"))
	again.hello(service("again"))
	if _, err := again.next(patience); err == nil {
		gone(t, "a new client is served")
	}
	t.Logf("%d descriptors: %d clients served; when all are gone the next one is not answered within %v, and the process runs on: %t",
		fewFiles, served, patience, !c.dead(0))
}

// letIn says whether the broker lets a client in.
func letIn(t *testing.T, at string, h hello) bool {
	c, err := tryOpen(t, at, h)
	if err != nil {
		return false
	}
	if err := c.tryHello(h); err != nil {
		return false
	}
	ack, err := c.next(waitMost)
	return err == nil && ack.ReasonCode == 0
}

func descriptorsGateway(t *testing.T) {
	c := spawn(t, spec{Ours: true, Files: fewFiles})
	served := exhaust(t, c.at)
	began := time.Now()
	for !letIn(t, c.at, endpoint("d1")) { // one that comes before the others' descriptors are free is closed at once
		if time.Since(began) > waitMost {
			t.Fatal("nobody is served any more")
		}
	}
	t.Logf("%d clients served; when all are gone the next one is served after %v", served, time.Since(began))
}

func shutdownPlain(t *testing.T) {
	const patience = 3 * time.Second
	c := spawn(t, spec{})
	dial(t, c.at)
	if !connect(t, c.at, service("dev")).alive(waitMost) { // accepted after the other
		t.Fatal("not alive")
	}
	if answer := c.ask("stop", patience); answer != "" {
		gone(t, "%s", answer)
	}
	t.Logf("one TCP connection without CONNECT: Close has not returned after %v", patience)
}

func shutdownGateway(t *testing.T) {
	o := ours(t)
	dial(t, o.address())
	if !connect(t, o.address(), endpoint("d1")).alive(waitMost) {
		t.Fatal("not alive")
	}
	began := time.Now()
	o.end()
	select {
	case err := <-o.ended:
		o.ended <- nil
		if err != nil {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(waitMost):
		t.Fatal("Run has not returned")
	}
	t.Logf("Run returns after %v", time.Since(began))
}

// huge is the beginning of a CONNECT that says it has 256 MB.
var huge = []byte{0x10, 0xff, 0xff, 0xff, 0x7f, 0x00}

func memoryPlain(t *testing.T) {
	c := spawn(t, spec{})
	before, after := c.number(t, "heap"), 0
	if _, err := dial(t, c.at).Write(huge); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the heap grows", func() bool {
		after = c.number(t, "heap")
		return after-before > 200<<20
	})
	t.Logf("%d bytes from somebody unknown: the heap grows from %d to %d KiB", len(huge), before>>10, after>>10)
}

func memoryGateway(t *testing.T) {
	c := spawn(t, spec{Ours: true})
	before := c.number(t, "heap")
	for range 5 {
		conn := dial(t, c.at)
		if _, err := conn.Write(huge); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(waitMost))
		if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("still connected")
		}
	}
	after := c.number(t, "heap")
	if after-before > 8<<20 {
		t.Errorf("the heap grew from %d to %d KiB", before>>10, after>>10)
	}
	t.Logf("five times: closed, the heap is %d KiB, after %d", after>>10, before>>10)
}

const connectTime = 5 * time.Second // ours has it, from accept to the end of CONNECT

// silent connects and sends what it is given, and returns when the broker closes, or after the patience.
func silent(t *testing.T, at string, begin []byte, patience time.Duration) time.Duration {
	began := time.Now() // before the broker counts
	conn := dial(t, at)
	_, _ = conn.Write(begin)
	_ = conn.SetReadDeadline(began.Add(patience))
	_, _ = conn.Read(make([]byte, 1))
	return time.Since(began)
}

func silentPlain(t *testing.T) {
	const patience = connectTime + 2*time.Second
	if took := silent(t, plain(t), nil, patience); took < patience {
		gone(t, "closed after %v", took)
	}
	t.Logf("a connection without CONNECT is open after %v", patience)
}

func silentGateway(t *testing.T) {
	at := ours(t).address()
	var waiting sync.WaitGroup
	pulse := testkit.StartPulse(t)
	for what, begin := range map[string][]byte{"nothing": nil, "half a CONNECT": {0x10, 0x20, 0x00, 0x04, 'M'}} {
		waiting.Go(func() {
			took := silent(t, at, begin, 2*connectTime)
			if took < connectTime-time.Second || took > connectTime+pulse.Limit(2*time.Second) {
				t.Errorf("%s: closed after %v", what, took)
			}
			t.Logf("%s: closed after %v", what, took)
		})
	}
	waiting.Wait()
}

// reject makes n clients connect that do not even take a CONNACK.
func reject(t *testing.T, at string, n int, who func(i int) hello) {
	for i := range n {
		h := who(i).keep().five()
		h.largest = 2
		c := open(t, at, h)
		c.hello(h)
		c.closed(waitMost)
	}
}

func forgottenPlain(t *testing.T) {
	const n = 300
	c := spawn(t, spec{})
	before := c.number(t, "heap")
	reject(t, c.at, n, func(i int) hello { return service(fmt.Sprintf("dev%d", i)) })
	after := c.number(t, "heap")
	if left := c.number(t, "clients"); left < n {
		gone(t, "%d clients are left", left)
	}
	t.Logf("%d clients whose CONNACK cannot be sent: none connected, all %d kept, %d KiB of heap each", n, n, (after-before)/n>>10)
}

func forgottenGateway(t *testing.T) {
	const n = 400
	c := spawn(t, spec{Ours: true})
	who := func(i int) hello {
		if i%2 == 0 {
			return endpoint(fmt.Sprintf("d%d", i/2%99+1))
		}
		return service(fmt.Sprintf("dev%d", i))
	}
	reject(t, c.at, 10, who) // what is there once
	before := c.number(t, "heap")
	reject(t, c.at, n, who)
	eventually(t, "all are gone", func() bool { return c.number(t, "clients") == 0 })
	if each := (c.number(t, "heap") - before) / n; each > 8<<10 {
		t.Errorf("%d bytes are left of each client", each)
	} else {
		t.Logf("%d such clients: %d bytes of heap are left of each", n, max(each, 0))
	}
}
