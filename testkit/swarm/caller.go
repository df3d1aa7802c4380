//go:build linux

package swarm

import (
	"context"
	"strconv"
	"time"

	"meterline/testkit/packet"
)

// calledID is the command of all calls.
const calledID = "01890000-0000-7000-8000-000000000000"

// Call lets one who signs in as who, a backend or a service client, send every device so many commands, each when the answer to the
// one before is acknowledged, and returns when the last is. Devices answer with a reading that no command asked for.
func (s *Swarm) Call(ctx context.Context, who packet.Account, each int) error {
	if s.caller == nil {
		s.caller = newDevice(callerKey, who)
		s.coming = append([]*device{s.caller}, s.coming...)
	}
	err := s.until(ctx, "the caller is there", func() bool { return s.caller.state == there })
	if err != nil {
		return err
	}
	s.calls = each * len(s.devices)
	for _, d := range s.devices {
		if s.calls > 0 {
			s.calls--
			s.call(d)
		}
	}
	return s.until(ctx, "all calls are answered", s.Quiet)
}

// call sends a device a command. A caller that is not there does it when it is.
func (s *Swarm) call(d *device) {
	d.called = true
	s.look(d)
	c := s.caller
	if c.state != there {
		return
	}
	if c.last++; c.last == 0 {
		c.last = 1
	}
	b := append(s.blank(), `{"v":1,"message_id":"c`...)
	b = strconv.AppendInt(b, int64(c.last), 10)
	b = append(b, `","message_type":"unicast","command_id":"`+calledID+`","kind":"meter.read","issued_at":"`...)
	b = s.began.AppendFormat(b, readAtForm)
	b = append(b, `","expires_at":"`...)
	b = s.began.Add(24*time.Hour).AppendFormat(b, readAtForm)
	b = append(b, `","priority":8,"attempt":1,"items":["`+Item+`"],"params":null,"targets":[{"device_id":"`...)
	b = append(b, d.who.User...)
	b = append(b, `"}]}`...)
	c.out = packet.AppendPublish(c.out, c.last, d.down, b)
	s.spare = append(s.spare, b)
}

// callAgain is for a caller that was away: what it sent may be lost.
func (s *Swarm) callAgain() {
	for _, d := range s.devices {
		if d.called && len(d.flying) == 0 {
			s.call(d)
		}
	}
}

// answered is when the answer to a call is acknowledged.
func (s *Swarm) answered(d *device) {
	d.called = false
	if s.calls > 0 {
		s.calls--
		s.call(d)
	}
}
