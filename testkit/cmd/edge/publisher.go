//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"meterline/testkit/packet"
)

// publisher is a service client that sends commands. Messages wait in its queue while the broker does not read.
type publisher struct {
	fleet *fleet
	queue chan outgoing
	ended chan struct{}
	err   error // once ended is closed
}

type outgoing struct {
	topic   string
	payload []byte
}

// queueLength is more than any phase publishes.
const queueLength = 1 << 20

// publisher starts a publisher that lives until ctx is done; then it must be waited for by ended.
func (f *fleet) publisher(ctx context.Context) (*publisher, error) {
	s, err := dial(ctx, f.target.addr, "", 0, packet.Account{Client: "edge-publisher", User: "service", Password: f.target.token})
	if err != nil {
		return nil, fmt.Errorf("publisher: %w", err)
	}
	p := &publisher{fleet: f, queue: make(chan outgoing, queueLength), ended: make(chan struct{})}
	go p.run(ctx, s)
	return p, nil
}

func (p *publisher) run(ctx context.Context, s *session) {
	defer close(p.ended)
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() }) // also out of a write that hangs
	defer stop()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for {
			if _, err := readPacket(s.r); err != nil {
				_ = s.conn.Close()
				return
			}
		}
	}()
	defer func() { _ = s.conn.Close(); <-read }()
	for id := uint16(1); ; id = id%0xFFFF + 1 {
		select {
		case m := <-p.queue:
			if _, err := s.conn.Write(packet.AppendPublish(nil, id, m.topic, m.payload)); err != nil {
				p.lost(ctx, err)
				return
			}
		case <-read:
			p.lost(ctx, errors.New("closed by the broker"))
			return
		case <-ctx.Done():
			return
		}
	}
}

func (p *publisher) lost(ctx context.Context, err error) {
	if ctx.Err() == nil {
		p.err = err
	}
}

// ping asks a device for an answer: a round trip from the time it was due until the PUBACK of the answer.
func (p *publisher) ping(d *device, due time.Time) {
	if r := p.fleet.round.Load(); r != nil {
		key := 2 * p.fleet.key.Add(1)
		r.of(key).begin(key, due)
		p.queue <- outgoing{d.down, commandPayload(key, 0)}
	}
}
