package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// bench is where one scenario is played: by one make in one way, in one role. Names are its own.
type bench struct {
	*estate
	driver
	variant
	role     string
	scenario string

	clients []client
}

// cell names the bench.
func (b *bench) cell() string {
	return b.variant.String() + "/" + b.role + "/" + strings.ReplaceAll(b.scenario, " ", "-")
}

// topic is one that nobody else uses.
func (b *bench) topic(name string) string { return "interop/" + b.cell() + "/" + name }

// id is a client id that nobody else uses.
func (b *bench) id(name string) string {
	return strings.NewReplacer("/", "-", ".", "").Replace(b.cell()) + "-" + name
}

// connect connects in the bench's role, if login does not say who it is. All filters must be granted as asked for.
func (b *bench) connect(ctx context.Context, as login) (client, error) {
	if as.user == "" && b.role == service {
		as.user, as.password = "service", b.service
	}
	c, err := b.attempt(ctx, as)
	if err != nil {
		return nil, err
	}
	for i, granted := range c.granted() {
		if granted != as.filters[i].QoS {
			return nil, fmt.Errorf("asked for %s at QoS %d, granted %#x", as.filters[i].Topic, as.filters[i].QoS, granted)
		}
	}
	return c, nil
}

// attempt connects and leaves it to the scenario what is to be granted.
func (b *bench) attempt(ctx context.Context, as login) (client, error) {
	c, err := b.driver.connect(ctx, b.variant, b.address(b.transport), as)
	if err != nil {
		return nil, fmt.Errorf("connect %s: %w", as.id, err)
	}
	b.clients = append(b.clients, c)
	return c, nil
}

// tidy ends all clients that the scenario has left.
func (b *bench) tidy() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range b.clients {
		_ = c.kill(ctx) // it may have gone
	}
	return ctx.Err()
}

// expect waits for these messages, in this order, and nothing between them.
func expect(ctx context.Context, c client, messages ...message) error {
	for i, want := range messages {
		got, err := c.next(ctx)
		if err != nil {
			return fmt.Errorf("message %d of %d, %v: %w", i+1, len(messages), want, err)
		}
		if got != want {
			return fmt.Errorf("message %d of %d: got %v, want %v", i+1, len(messages), got, want)
		}
	}
	return nil
}

// expectBeside is expect for a client that has come back: before what it missed it may be sent again what it had not yet
// acknowledged when it went.
func expectBeside(ctx context.Context, c client, seen []message, messages ...message) error {
	for {
		got, err := c.next(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("message 1 of %d: %w", len(messages), err)
		case got == messages[0]:
			return expect(ctx, c, messages[1:]...)
		case !slices.Contains(seen, got):
			return fmt.Errorf("message 1 of %d: got %v, want %v", len(messages), got, messages[0])
		}
	}
}

// first is the first error of some steps; each is taken only when those before it went well.
func first(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// numbered are messages that differ in their payload.
func numbered(n int, like message) (all []message) {
	for i := range n {
		like.Payload = fmt.Sprintf("%d of %d", i+1, n)
		all = append(all, like)
	}
	return all
}

// poll asks until the answer is yes.
func poll(ctx context.Context, what string, ask func() (bool, error)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		yes, err := ask()
		if err != nil || yes {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait until %s", what), ctx.Err())
		}
	}
}

// meters counts the devices that scenarios have registered.
var meters atomic.Int64

// meter registers a device for the scenario and says how it signs in.
func (b *bench) meter(ctx context.Context) (login, error) {
	id := fmt.Sprintf("meter-%d", meters.Add(1))
	secret, err := b.device(ctx, id)
	return login{id: id, user: id, password: secret}, err
}
