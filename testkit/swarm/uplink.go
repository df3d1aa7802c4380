//go:build linux

package swarm

import (
	"bytes"
	"context"
	"strconv"
	"time"

	"meterline/testkit/packet"
)

// Item is what all readings are of.
const Item = "1-0:1.8.0"

const readAtForm = "2006-01-02T15:04:05.000000Z"

// Publish lets every device publish so many messages of one reading that nobody asked for, at most window of them not
// acknowledged at a time, and returns when all are acknowledged.
func (s *Swarm) Publish(ctx context.Context, each, window int) error {
	s.window = window
	for _, d := range s.devices {
		d.todo += each
		s.look(d)
		if d.state == there {
			s.lend(d)
			s.publish(d)
			s.settle(d)
		}
	}
	return s.until(ctx, "all uplinks are acknowledged", s.Quiet)
}

// Quiet says whether no device has anything to do: what it was asked for, or asked to publish, is acknowledged.
func (s *Swarm) Quiet() bool { return s.busy == 0 && s.calls == 0 }

// publish fills the window of a device.
func (s *Swarm) publish(d *device) {
	if d.state != there {
		return
	}
	for d.todo > 0 && len(d.flying) < s.window {
		d.todo--
		s.push(d)
	}
}

// push hands in a reading that no command asked for.
func (s *Swarm) push(d *device) {
	s.number++
	b := append(s.blank(), `{"v":1,"message_id":"s`...)
	b = strconv.AppendInt(b, s.number, 10)
	b = append(b, `","readings":[{"device_id":"`...)
	b = append(b, d.who.User...)
	b = append(b, `",`...)
	b = s.reading(b)
	b = append(b, `]}`...)
	s.send(d, d.readings, b, 1)
}

// reading is the fields of the reading whose turn it is, without the opening brace.
func (s *Swarm) reading(b []byte) []byte {
	b = append(b, `"item":"`+Item+`","value":"`...)
	b = strconv.AppendInt(b, s.number, 10)
	b = append(b, `","unit":"kWh","read_at":"`...)
	b = s.began.Add(time.Duration(s.number)*time.Microsecond).AppendFormat(b, readAtForm)
	return append(b, `"}`...)
}

// answer hands in one reading of each target of a command, at once. To a call it is a reading that no command asked for:
// the record knows of no such command.
func (s *Swarm) answer(d *device, command []byte) {
	id, ok := field(command, `"command_id":"`)
	if !ok {
		return
	}
	if string(id) == calledID {
		s.push(d)
		s.look(d)
		return
	}
	attempt := number(command)
	_, targets, ok := bytes.Cut(command, []byte(`"targets":[`))
	if !ok {
		return
	}
	for more := true; more; {
		b, n := s.blank(), 0
		for n < s.opt.PerMessage {
			target, ok := field(targets, `"device_id":"`)
			if !ok {
				more = false
				break
			}
			targets = targets[bytes.Index(targets, target)+len(target):]
			s.number++
			b = s.result(b, n == 0, id, target, attempt)
			n++
		}
		if n > 0 {
			s.send(d, d.result, append(b, `]}`...), n)
		}
	}
	s.look(d)
}

// result is what became of one target.
func (s *Swarm) result(b []byte, first bool, command, target, attempt []byte) []byte {
	if first {
		b = append(b, `{"v":1,"message_id":"s`...)
		b = strconv.AppendInt(b, s.number, 10)
		b = append(b, `","results":[{"command_id":"`...)
	} else {
		b = append(b, `,{"command_id":"`...)
	}
	b = append(b, command...)
	b = append(b, `","device_id":"`...)
	b = append(b, target...)
	b = append(b, `","attempt":`...)
	b = append(b, attempt...)
	b = append(b, `,"status":"ok","final":true,"readings":[{`...)
	return append(s.reading(b), `]}`...)
}

// send publishes a payload, which is of a blank, and keeps it until it is acknowledged.
func (s *Swarm) send(d *device, topic string, payload []byte, readings int) {
	if d.last++; d.last == 0 {
		d.last = 1
	}
	frame := packet.AppendPublish(s.blank(), d.last, topic, payload)
	s.spare = append(s.spare, payload)
	d.flying = append(d.flying, flight{id: d.last, readings: readings, frame: frame})
	s.sent.Add(int64(readings))
	if d.state == there {
		d.out = append(d.out, frame...)
	}
}

// blank is an empty buffer, one that was used before when there is one.
func (s *Swarm) blank() []byte {
	if n := len(s.spare); n > 0 {
		b := s.spare[n-1]
		s.spare = s.spare[:n-1]
		return b[:0]
	}
	return make([]byte, 0, 512)
}

// field is the string that follows key.
func field(text []byte, key string) ([]byte, bool) {
	at := bytes.Index(text, []byte(key))
	if at < 0 {
		return nil, false
	}
	value, _, ok := bytes.Cut(text[at+len(key):], []byte(`"`))
	return value, ok
}

// number is the attempt of a command.
func number(command []byte) []byte {
	const key = `"attempt":`
	at := bytes.Index(command, []byte(key))
	if at < 0 {
		return []byte("1")
	}
	digits := command[at+len(key):]
	n := 0
	for n < len(digits) && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	return digits[:n]
}
