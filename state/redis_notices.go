package state

import (
	"context"
	"encoding/json"
	"fmt"

	"meterline/command"
)

const (
	noticesChannel  = "meterline:notices"
	sessionsChannel = "meterline:sessions"
)

// Notify tells every process that listens now.
func (r *Redis) Notify(ctx context.Context, n command.Notice) error {
	b, err := json.Marshal(n)
	if err != nil {
		return fmt.Errorf("encode notice: %w", err)
	}
	if err := r.client.Publish(ctx, noticesChannel, b).Err(); err != nil {
		return fmt.Errorf("publish notice: %w", err)
	}
	return nil
}

// Listen calls f for every notice until ctx is done; it outlives a Redis that goes away and comes back.
func (r *Redis) Listen(ctx context.Context, f func(command.Notice)) error {
	return r.subscribe(ctx, noticesChannel, func(payload string) {
		var n command.Notice
		if json.Unmarshal([]byte(payload), &n) == nil { // not ours otherwise: notices may be lost anyway
			f(n)
		}
	})
}

// subscribe calls f for what is published on the channel until ctx is done.
func (r *Redis) subscribe(ctx context.Context, channel string, f func(payload string)) error {
	sub := r.client.Subscribe(ctx, channel)
	messages := sub.Channel() // connects again by itself
	defer func() { _ = sub.Close() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m, open := <-messages:
			if !open {
				return fmt.Errorf("listen on %s: the client was closed", channel)
			}
			f(m.Payload)
		}
	}
}
