//go:build linux

package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"

	"meterline/mqtt"
	"meterline/testkit/packet"
)

// Null is a peer that does nothing but what the protocol asks for: whoever comes is let in, every publish is acknowledged at once and
// forgotten, and commands are handed on. What a swarm reaches against it is its own ceiling.
type Null struct {
	// Calls is how many commands of Targets targets every device that subscribes gets, each when the one before is answered.
	Calls, Targets int

	mu      sync.Mutex
	devices map[string]*nullConn // by topic of their commands
}

// nullConn is one connection; its lock is held while writing.
type nullConn struct {
	net.Conn
	mu    sync.Mutex
	last  uint16
	calls int
	waits int // targets that are not answered
}

// Serve answers connections of l until ctx is done, and returns when all of them are over.
func (n *Null) Serve(ctx context.Context, l net.Listener) error {
	n.devices = map[string]*nullConn{}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		socket, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		all.Go(func() {
			defer context.AfterFunc(ctx, func() { _ = socket.Close() })()
			defer socket.Close()
			n.converse(&nullConn{Conn: socket, calls: n.Calls})
		})
	}
}

// converse reads until the connection is over.
func (n *Null) converse(c *nullConn) {
	buffer, held := make([]byte, 32<<10), 0
	for {
		got, err := c.Read(buffer[held:])
		if err != nil {
			return
		}
		data := buffer[:held+got]
		var out []byte
		for {
			first, body, size, err := split(data)
			if err != nil {
				return
			}
			if size == 0 {
				break
			}
			out = n.reply(c, out, first, body)
			data = data[size:]
		}
		if held = copy(buffer, data); held == len(buffer) {
			buffer = append(buffer, make([]byte, len(buffer))...)
		}
		if err := c.write(out); err != nil {
			return
		}
	}
}

func (c *nullConn) write(out []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Write(out)
	return err
}

// reply appends what a packet is answered with.
func (n *Null) reply(c *nullConn, out []byte, first byte, body []byte) []byte {
	switch first & 0xF0 {
	case packet.Connect:
		return append(out, packet.Connack, 2, 0, 0)
	case packet.Subscribe:
		n.mu.Lock()
		n.devices[string(body[4:len(body)-1])] = c
		n.mu.Unlock()
		out = append(out, packet.Suback, 3, body[0], body[1], 1)
		return n.call(c, string(body[4:len(body)-1]), out)
	case packet.Publish:
		var p incoming
		topic, err := p.publish(first, body)
		if err != nil || p.id == 0 {
			return out
		}
		out = packet.AppendPuback(out, p.id)
		if !bytes.HasSuffix(topic, []byte("/command")) {
			return n.answered(c, topic, p.payload, out)
		}
		n.mu.Lock()
		to := n.devices[string(topic)]
		n.mu.Unlock()
		if to != nil {
			to.forward(string(topic), p.payload)
		}
	}
	return out
}

// forward hands a command on.
func (c *nullConn) forward(topic string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = c.last%0xFFFF + 1
	_, _ = c.Write(packet.AppendPublish(nil, c.last, topic, payload)) // whoever reads it finds out
}

// call appends a command of the peer's own, when some are left.
func (n *Null) call(c *nullConn, topic string, out []byte) []byte {
	if c.calls == 0 {
		return out
	}
	c.calls--
	c.last = c.last%0xFFFF + 1
	c.waits = n.Targets
	payload := []byte(`{"v":1,"message_id":"n","command_id":"null","attempt":1,"items":["` + Item + `"],"targets":[`)
	for i := range n.Targets {
		if i > 0 {
			payload = append(payload, ',')
		}
		payload = append(payload, `{"device_id":"null-`...)
		payload = strconv.AppendInt(payload, int64(i), 10)
		payload = append(payload, `"}`...)
	}
	return packet.AppendPublish(out, c.last, topic, append(payload, `]}`...))
}

// answered counts the targets that a message answers, and calls again after the last.
func (n *Null) answered(c *nullConn, topic, payload, out []byte) []byte {
	if c.waits -= bytes.Count(payload, []byte(`"status":`)); c.waits > 0 {
		return out
	}
	id := bytes.TrimSuffix(bytes.TrimPrefix(topic, []byte(mqtt.Prefix)), []byte("/up/result"))
	return n.call(c, mqtt.Prefix+string(id)+"/down/command", out)
}
