package broker

import (
	"bytes"
	"errors"
	"net"
	"os"
	"slices"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/testkit"
)

// FuzzConnection lets up to three clients at a time do what the input says to one broker that lives on. After each
// script a good device must still be served at once, every acknowledged uplink must be in the log as it was sent, and
// nothing that the rules forbid may have been let in, stored or sent.
func FuzzConnection(f *testing.F) {
	for _, s := range connectionSeeds() {
		f.Add(s)
	}
	w := &fuzzWorld{}
	f.Cleanup(w.end)
	f.Fuzz(func(t *testing.T, input []byte) {
		if len(input) > 4<<10 {
			return
		}
		w.begin(t, input)
		run := &fuzzRun{t: t, world: w, script: fuzzScript{input}}
		run.play()
		w.goodDevice(t)
		run.finish()
		w.settle(t)
		run.judge(w.rig.log.drain())
		w.look(t)
	})
}

// fuzzRun is one execution.
type fuzzRun struct {
	t       *testing.T
	world   *fuzzWorld
	script  fuzzScript
	clients [fuzzClients]*fuzzClient
	past    []*fuzzClient // connections that were given up
}

// fuzzClient is one connection of a script, and all that went over it.
type fuzzClient struct {
	conn       *net.TCPConn
	pulse      *testkit.Pulse
	version    byte
	sent, read []byte
	over       bool // nothing more can be sent or read
}

func (r *fuzzRun) client(i int) *fuzzClient {
	i %= fuzzClients
	if r.clients[i] == nil {
		conn, err := r.world.dialer().Dial("tcp", r.world.rig.Addr("mqtt"))
		if err != nil {
			r.t.Fatal(err)
		}
		r.clients[i] = &fuzzClient{conn: conn.(*net.TCPConn), pulse: r.world.pulse, version: 4}
	}
	return r.clients[i]
}

func (r *fuzzRun) play() {
	for range fuzzSteps {
		if len(r.script.in) == 0 {
			break
		}
		step := r.script.byte()
		i, action := int(step&stepClient>>4), step&0x0f%actionCount
		c := r.client(i)
		if action == actReset || action == actConnect && len(c.sent) > 0 && c.over {
			r.giveUp(i % fuzzClients)
			continue
		}
		packet := r.script.packet(action, &c.version)
		if step&stepBreak != 0 {
			packet = r.script.broken(packet)
		}
		c.write(packet)
		if step&stepSync != 0 || action == actConnect {
			r.sync(c)
		}
	}
	for _, c := range r.clients {
		r.sync(c)
	}
}

// giveUp resets a connection; the next step opens another.
func (r *fuzzRun) giveUp(i int) {
	c := r.clients[i]
	_ = c.conn.SetLinger(0)
	_ = c.conn.Close()
	c.over = true
	r.past, r.clients[i] = append(r.past, c), nil
}

func (c *fuzzClient) write(packet []byte) {
	if c.over {
		return
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(fuzzWait))
	n, err := c.conn.Write(packet)
	c.sent = append(c.sent, packet[:n]...)
	c.over = c.over || errors.Is(err, os.ErrDeadlineExceeded)
}

// sync waits until the broker has dealt with what the client sent, where it can be seen that it has.
func (r *fuzzRun) sync(c *fuzzClient) {
	if c == nil || c.over {
		return
	}
	sent, rest, err := cutPackets(c.sent)
	if err != nil || len(rest) > 0 || len(sent) == 0 {
		return // it waits for the rest, or closes
	}
	if c.until(r.t, 2) && !c.over {
		pings := 1
		for _, p := range sent {
			if p.kind() == 12 {
				pings++
			}
		}
		c.write([]byte{0xc0, 0})
		c.untilCount(r.t, 13, pings)
	}
}

// until reads until a packet of the kind has come; false when the connection ended before.
func (c *fuzzClient) until(t *testing.T, kind byte) bool {
	t.Helper()
	return c.untilCount(t, kind, 1)
}

// untilCount reads until so many packets of the kind have come. A whole packet is answered or the connection is closed:
// silence is a failure.
func (c *fuzzClient) untilCount(t *testing.T, kind byte, n int) bool {
	t.Helper()
	for {
		got, _, err := cutPackets(c.read)
		if err != nil {
			t.Fatalf("the broker sent %.200q: %v", c.read, err)
		}
		have := 0
		for _, p := range got {
			if p.kind() == kind {
				have++
			}
		}
		if have >= n {
			return true
		}
		if c.over {
			return false
		}
		c.receive(t)
	}
}

// receive reads once.
func (c *fuzzClient) receive(t *testing.T) {
	t.Helper()
	var buf [32 << 10]byte
	began := time.Now()
	_ = c.conn.SetReadDeadline(began.Add(fuzzWait))
	n, err := c.conn.Read(buf[:])
	c.read = append(c.read, buf[:n]...)
	if took := time.Since(began); took > c.pulse.Limit(fuzzPatience) {
		t.Fatalf("neither an answer nor an end within %v; sent %.200q, got %.200q", took, c.sent, c.read)
	}
	c.over = c.over || err != nil
}

// finish ends every connection in order, so that everything it was sent is read.
func (r *fuzzRun) finish() {
	for _, c := range r.clients {
		if c == nil {
			continue
		}
		r.sync(c)
		_ = c.conn.CloseWrite()
		for !c.over {
			c.receive(r.t)
		}
		_ = c.conn.Close()
		r.past = append(r.past, c)
	}
}

// judge compares what was sent, answered and stored.
func (r *fuzzRun) judge(log []command.Uplink) {
	r.t.Helper()
	var may []command.Uplink
	admitted := map[string]bool{"d9": true}
	may = append(may, command.Uplink{Endpoint: "d9", Kind: command.UplinkResult, Payload: []byte("good")})
	for _, c := range r.past {
		endpoint, sent, acked := r.judgeClient(c)
		if endpoint == "" {
			continue
		}
		admitted[endpoint] = true
		may = append(may, sent...)
		for _, u := range acked {
			if !slices.ContainsFunc(log, same(u)) {
				r.t.Errorf("%s was acknowledged %s %.80q, which is not in the log", u.Endpoint, u.Kind, u.Payload)
			}
		}
	}
	for _, u := range log {
		switch u.Kind {
		case command.UplinkDisconnected, command.UplinkDelivered, command.UplinkUndeliverable:
			continue // may be about the execution before
		case command.UplinkConnected, command.UplinkSecurity:
			if !admitted[string(u.Endpoint)] {
				r.t.Errorf("%s of %s, which is not there", u.Kind, u.Endpoint)
			}
			continue
		}
		if !slices.ContainsFunc(may, same(u)) {
			r.t.Errorf("the log holds %s of %s, which was not sent: %.80q", u.Kind, u.Endpoint, u.Payload)
		}
	}
}

func same(u command.Uplink) func(command.Uplink) bool {
	return func(v command.Uplink) bool {
		return u.Endpoint == v.Endpoint && u.Kind == v.Kind && bytes.Equal(u.Payload, v.Payload)
	}
}

// judgeClient says which uplinks the client sent, and which of them were acknowledged; "" when it is no endpoint.
func (r *fuzzRun) judgeClient(c *fuzzClient) (endpoint string, sent, acked []command.Uplink) {
	r.t.Helper()
	ours, _, _ := cutPackets(c.sent)
	theirs, _, err := cutPackets(c.read)
	if err != nil {
		r.t.Fatalf("the broker sent %.200q: %v", c.read, err)
	}
	if len(ours) == 0 || len(theirs) == 0 {
		if len(c.read) > 0 && len(ours) == 0 {
			r.t.Errorf("half a packet %.80q was answered: %.80q", c.sent, c.read)
		}
		return "", nil, nil
	}
	in := introduction(ours[0])
	if theirs[0].kind() == 2 && len(theirs[0].body) > 1 && theirs[0].body[1] == 0 {
		if !in.endpoint && !in.service && !in.backend {
			r.t.Fatalf("admitted: %+v", in)
		}
	} else if in = (introduced{version: in.version}); len(theirs) > 2 {
		r.t.Errorf("a client that was refused was sent %d packets", len(theirs))
	}
	ids := map[int][]command.Uplink{}
	if in.endpoint {
		for _, p := range ours[1:] {
			m, ok := publicationOf(p, in.version)
			if u, good := uplinkOf(in.user, m); p.kind() == 3 && ok && good {
				u.Endpoint = fleet.DeviceID(in.user)
				sent = append(sent, u)
				ids[m.id] = append(ids[m.id], u)
			}
		}
	}
	for _, p := range theirs {
		if err := mayBeSent(p, in); err != nil {
			r.t.Error(err)
		}
		if in.endpoint && p.kind() == 4 && (len(p.body) < 3 || p.body[2] < 0x80) {
			acked = append(acked, r.firstOf(ids, p)...)
		}
	}
	if !in.endpoint {
		return "", nil, nil
	}
	return in.user, sent, acked
}

// firstOf takes the uplink that a PUBACK is for.
func (r *fuzzRun) firstOf(ids map[int][]command.Uplink, puback wirePacket) []command.Uplink {
	r.t.Helper()
	f := wireFields{b: puback.body}
	id := int(f.uint16())
	if id == 0 || len(ids[id]) == 0 {
		r.t.Errorf("a PUBACK with packet id %d, under which nothing was sent", id)
		return nil
	}
	first := ids[id][:1]
	ids[id] = ids[id][1:]
	return first
}
