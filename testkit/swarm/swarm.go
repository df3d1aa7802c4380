//go:build linux

package swarm

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"meterline/testkit/packet"
)

// Options say what a swarm is made of.
type Options struct {
	Address  string           // of the gateway, host:port in IPv4
	Accounts []packet.Account // one of each device; the user is its id
	Silent   bool             // devices do not subscribe to their commands
	// PerMessage is how many targets of a command are answered in one message at most; 0: 50.
	PerMessage int
	// Handshakes is how many devices come in at the same time; 0: 64.
	Handshakes int
}

// Counts are what has happened so far.
type Counts struct {
	There    int64 // devices that are connected, and subscribed unless they are silent
	Commands int64 // messages that came down
	Sent     int64 // readings handed in at least once: their numbers are 1 to Sent
	Acked    int64 // of these, acknowledged
	Uplinks  int64 // messages acknowledged
	Lost     int64 // connections that nobody here closed
	Refused  int64 // attempts to come in that failed
}

// Swarm is the devices. One goroutine at a time may be in a method other than Counts.
type Swarm struct {
	opt     Options
	addr    netip.AddrPort
	began   time.Time
	poll    *poller
	devices []*device
	coming  []*device // not connected, in the order in which they try
	signing int       // of the others, not there yet
	caller  *device   // nil: nobody calls
	calls   int       // still to be made
	busy    int       // devices that have something to do: messages in flight or to publish, a call to answer
	window  int       // of uplinks that nobody asked for
	number  int64     // of the last reading
	why     error     // the last refusal or loss
	buffer  []byte    // that all read through
	scratch []byte    // that all write through
	spare   [][]byte  // frames to be used again

	there, commands, sent, acked, uplinks, lost, refused atomic.Int64
}

const (
	perMessage  = 50
	handshakes  = 64
	comeBack    = time.Second           // after a connection was lost or refused
	lookEvery   = 20 * time.Millisecond // whether there is something to do that no socket tells
	readBuffer  = 256 << 10
	sourceFirst = 20 // 127.0.0.20 and up
	sources     = 200
)

// New makes a swarm that is not connected. Close gives back what it holds.
func New(o Options) (*Swarm, error) {
	addr, err := netip.ParseAddrPort(o.Address)
	if err != nil || !addr.Addr().Is4() {
		return nil, fmt.Errorf("swarm: address %q: not a host of IPv4 and a port", o.Address)
	}
	if o.PerMessage == 0 {
		o.PerMessage = perMessage
	}
	if o.Handshakes == 0 {
		o.Handshakes = handshakes
	}
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	s := &Swarm{opt: o, addr: addr, began: time.Now().UTC().Truncate(time.Microsecond), poll: p, buffer: make([]byte, readBuffer)}
	for i, who := range o.Accounts {
		s.devices = append(s.devices, newDevice(i, who))
	}
	s.coming = append(s.coming, s.devices...)
	return s, nil
}

// Began is the time of reading number 0; number n is n microseconds later, and has the value n.
func (s *Swarm) Began() time.Time { return s.began }

// Counts may be asked for while another goroutine runs the swarm.
func (s *Swarm) Counts() Counts {
	return Counts{There: s.there.Load(), Commands: s.commands.Load(), Sent: s.sent.Load(), Acked: s.acked.Load(),
		Uplinks: s.uplinks.Load(), Lost: s.lost.Load(), Refused: s.refused.Load()}
}

// Run lets the devices live until done says so, which it is asked after each step, or ctx is over, which is no error. A nil done is
// never.
func (s *Swarm) Run(ctx context.Context, done func() bool) error {
	for ctx.Err() == nil && (done == nil || !done()) {
		s.bringIn(time.Now())
		events, err := s.poll.wait(lookEvery)
		if err != nil {
			return err
		}
		for _, e := range events {
			s.serve(s.of(int(e.Fd)), e.Events)
		}
		if s.caller != nil {
			s.settle(s.caller)
		}
	}
	return nil
}

// until is Run that has to come to its end within the time of ctx.
func (s *Swarm) until(ctx context.Context, what string, done func() bool) error {
	if err := s.Run(ctx, done); err != nil {
		return err
	}
	if !done() {
		return fmt.Errorf("wait until %s: %w: %+v, last trouble: %v", what, ctx.Err(), s.Counts(), s.why) //nolint:errorlint // may be nil
	}
	return nil
}

// Connect brings all devices in.
func (s *Swarm) Connect(ctx context.Context) error {
	return s.until(ctx, "all devices are there", func() bool { return int(s.there.Load()) == len(s.devices) })
}

// Leave closes all connections. What was not acknowledged is published again by a later Connect.
func (s *Swarm) Leave() {
	all := s.devices
	if s.caller != nil {
		all = append(all[:len(all):len(all)], s.caller)
	}
	for _, d := range all {
		if d.state != away {
			s.leave(d)
			d.again = time.Time{}
		}
	}
}

// Close leaves and gives back what the swarm holds.
func (s *Swarm) Close() {
	s.Leave()
	s.poll.close()
}

// of is the device that a socket was watched for.
func (s *Swarm) of(key int) *device {
	if key == callerKey {
		return s.caller
	}
	return s.devices[key]
}

// bringIn lets those try to come in whose time has come.
func (s *Swarm) bringIn(now time.Time) {
	for s.signing < s.opt.Handshakes && len(s.coming) > 0 && !s.coming[0].again.After(now) {
		d := s.coming[0]
		s.coming = s.coming[1:]
		source := [4]byte{127, 0, 0, byte(sourceFirst + max(d.key, 0)%sources)}
		fd, err := dial(s.addr, source)
		d.conn = conn{fd: fd, awaiting: true, out: packet.AppendConnect(nil, d.who, 0)}
		d.state = connecting
		s.signing++
		if err == nil {
			err = s.poll.watch(fd, d.key, readable|writable)
		}
		if err != nil {
			s.lose(d, err)
		}
	}
}

// lose is for connections that are over, or did not come up, though nobody here closed them.
func (s *Swarm) lose(d *device, why error) {
	s.why = fmt.Errorf("%s: %w", d.who.User, why)
	if d.state == there {
		s.lost.Add(1)
	} else {
		s.refused.Add(1)
	}
	s.leave(d)
}

// leave closes a connection; the device will try again.
func (s *Swarm) leave(d *device) {
	_ = unix.Close(d.fd) // -1 where there is none
	d.conn = conn{}
	switch {
	case d.state == there && d.key != callerKey:
		s.there.Add(-1)
	case d.state != there:
		s.signing--
	}
	d.state = away
	d.again = time.Now().Add(comeBack)
	s.coming = append(s.coming, d)
}
