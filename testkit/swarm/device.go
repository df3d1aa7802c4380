//go:build linux

package swarm

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"meterline/meterread"
	"meterline/mqtt"
	"meterline/testkit/packet"
)

type state int

const (
	away        state = iota // waits in Swarm.coming
	connecting               // CONNECT is on its way
	subscribing              // SUBSCRIBE is
	there
)

// callerKey is the key of the one who is no device.
const callerKey = -1

// device is one endpoint.
type device struct {
	conn
	key                    int
	who                    packet.Account
	state                  state
	down, result, readings string // topics
	again                  time.Time
	last                   uint16   // packet id
	flying                 []flight // in the order of publishing
	todo                   int      // messages to publish that nobody asked for
	called                 bool     // the caller waits for an answer
	busy                   bool     // counted in Swarm.busy
}

// flight is a message that is not acknowledged.
type flight struct {
	id       uint16
	readings int
	frame    []byte // the whole packet, to be sent again
}

func newDevice(key int, who packet.Account) *device {
	id := meterread.DeviceID(who.User)
	return &device{key: key, who: who, down: mqtt.CommandTopic(id), result: mqtt.UplinkTopic(id, mqtt.Result), readings: mqtt.UplinkTopic(id, mqtt.Readings)}
}

// serve does what a socket asks for.
func (s *Swarm) serve(d *device, events uint32) {
	if d.state == away {
		return // closed by an event before this one
	}
	s.lend(d)
	if events&(readable|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if err := d.read(s.buffer, func(p incoming) error { return s.handle(d, p) }); err != nil {
			s.lose(d, err)
			return
		}
		s.publish(d)
	}
	s.settle(d)
}

// lend gives a device that has nothing to write the buffer that all write through.
func (s *Swarm) lend(d *device) {
	if len(d.out) == 0 && d.key != callerKey {
		d.out, s.scratch = s.scratch[:0], nil
	}
}

// settle writes what a device has to write, keeps what the kernel does not take, and lets the swarm know when it does.
func (s *Swarm) settle(d *device) {
	if d.state == away {
		return
	}
	if err := d.flush(); err != nil {
		s.lose(d, err)
		return
	}
	if d.key != callerKey && s.scratch == nil {
		if len(d.out) == 0 {
			s.scratch, d.out = d.out[:0], nil
		} else {
			d.out = bytes.Clone(d.out)
		}
	}
	if waits := len(d.out) > 0; waits != d.awaiting {
		what := uint32(readable)
		if waits {
			what |= writable
		}
		if err := s.poll.change(d.fd, d.key, what); err != nil {
			s.lose(d, err)
			return
		}
		d.awaiting = waits
	}
}

var (
	errRefused = errors.New("refused")
	errOrder   = errors.New("a packet that was not due")
)

// handle is what a device does with a packet.
func (s *Swarm) handle(d *device, p incoming) error {
	switch {
	case p.kind == packet.Connack && d.state == connecting:
		if p.code != 0 {
			return fmt.Errorf("%w: CONNACK %d", errRefused, p.code)
		}
		if s.opt.Silent || d.key == callerKey {
			s.arrive(d)
			return nil
		}
		d.state = subscribing
		d.out = packet.AppendSubscribe(d.out, 1, d.down)
	case p.kind == packet.Suback && d.state == subscribing:
		if p.code > 2 {
			return fmt.Errorf("%w: SUBACK %d", errRefused, p.code)
		}
		s.arrive(d)
	case p.kind == packet.Puback && d.state == there:
		if d.key != callerKey {
			return s.acknowledged(d, p.id)
		}
	case p.kind == packet.Publish && d.key != callerKey: // also before SUBACK (3.8.4)
		if p.id != 0 {
			d.out = packet.AppendPuback(d.out, p.id)
		}
		s.commands.Add(1)
		s.answer(d, p.payload)
	default:
		return fmt.Errorf("%w: type %d", errOrder, p.kind>>4)
	}
	return nil
}

// arrive is when a device is there: what was not acknowledged is published again first.
func (s *Swarm) arrive(d *device) {
	d.state = there
	s.signing--
	if d.key == callerKey {
		s.callAgain()
		return
	}
	s.there.Add(1)
	for _, f := range d.flying {
		packet.SetDup(f.frame)
		d.out = append(d.out, f.frame...)
	}
	if d.called && len(d.flying) == 0 {
		s.call(d) // the call may have met a device that was not there
	}
}

// acknowledged is a PUBACK. Those that nobody waits for are of a message that was sent twice.
func (s *Swarm) acknowledged(d *device, id uint16) error {
	for i, f := range d.flying {
		if f.id != id {
			continue
		}
		d.flying = append(d.flying[:i], d.flying[i+1:]...)
		s.spare = append(s.spare, f.frame)
		s.acked.Add(int64(f.readings))
		s.uplinks.Add(1)
		if d.called {
			s.answered(d)
		}
		break
	}
	s.look(d)
	return nil
}

// look counts a device as busy, or not any more.
func (s *Swarm) look(d *device) {
	busy := len(d.flying) > 0 || d.todo > 0 || d.called
	if busy != d.busy {
		d.busy = busy
		if busy {
			s.busy++
		} else {
			s.busy--
		}
	}
}
