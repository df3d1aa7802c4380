package interop

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// scenario is something that every client must be able to do. It is played on a bench of its own; an error says what went
// wrong.
type scenario struct {
	name  string
	roles []string
	play  func(context.Context, *bench) error
}

var plain = []string{anonymous, service}

// scenarios are all that is played. Those for devices are in devices_test.go.
var scenarios = []scenario{
	{"QoS 0", plain, exchange(0)},
	{"QoS 1", plain, exchange(1)},
	{"QoS 2", plain, exchange(2)},
	{"lower QoS wins", plain, lowerQoSWins},
	{"large payload", plain, largePayload},
	{"wildcard", plain, wildcard},
	{"retained", plain, retained},
	{"will", plain, will},
	{"will retained", plain, willRetained},
	{"no will", plain, noWill},
	{"will asked for", plain, willAskedFor},
	{"shared subscription", plain, sharedSubscription},
	{"resume QoS 1", plain, resume(1)},
	{"resume QoS 2", plain, resume(2)},
	{"clean start", plain, cleanStart},
	{"wrong secret", []string{service, device}, wrongSecret},
	{"uplink", []string{device}, uplink},
	{"uplink seen", []string{service}, uplinkSeen},
	{"command", []string{device}, commandAnswered},
	{"command while away", []string{device}, commandWhileAway},
	{"foreign topic", []string{device}, foreignTopic},
}

// exchange: what is published at some QoS comes at that QoS, all of it, in order.
func exchange(qos byte) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		topic := b.topic("exchange")
		reader, err := b.connect(ctx, login{id: b.id("reader"), filters: []filter{{topic, qos}}})
		if err != nil {
			return err
		}
		writer, err := b.connect(ctx, login{id: b.id("writer")})
		if err != nil {
			return err
		}
		messages := append(numbered(10, message{Topic: topic, QoS: qos}), message{Topic: topic, Payload: "grün und 重量", QoS: qos})
		return first(
			func() error { return writer.publish(ctx, messages[:10]...) },
			func() error { return expect(ctx, reader, messages[:10]...) },
			func() error { return reader.publish(ctx, messages[10]) }, // also to itself
			func() error { return expect(ctx, reader, messages[10]) },
		)
	}
}

func lowerQoSWins(ctx context.Context, b *bench) error {
	topic := b.topic("qos")
	reader, err := b.connect(ctx, login{id: b.id("reader"), filters: []filter{{topic, 1}}})
	if err != nil {
		return err
	}
	for _, qos := range []byte{2, 1, 0} {
		m := message{Topic: topic, Payload: fmt.Sprint("at ", qos), QoS: qos}
		if err := reader.publish(ctx, m); err != nil {
			return err
		}
		m.QoS = min(qos, 1)
		if err := expect(ctx, reader, m); err != nil {
			return err
		}
	}
	return nil
}

// largePayload is many reads, TLS records and WebSocket frames long.
func largePayload(ctx context.Context, b *bench) error {
	m := message{Topic: b.topic("large"), Payload: strings.Repeat("0123456789abcdef", 15<<10), QoS: 1}
	c, err := b.connect(ctx, login{id: b.id("c"), filters: []filter{{m.Topic, 1}}})
	if err != nil {
		return err
	}
	return first(
		func() error { return c.publish(ctx, m) },
		func() error { return expect(ctx, c, m) },
	)
}

func wildcard(ctx context.Context, b *bench) error {
	base := b.topic("w")
	c, err := b.connect(ctx, login{id: b.id("c"), filters: []filter{{base + "/+/level", 1}, {base + "/all/#", 1}}})
	if err != nil {
		return err
	}
	var seen []message
	for _, m := range []struct {
		topic   string
		matches bool
	}{{"/a/level", true}, {"/a/other", false}, {"/a/b/level", false}, {"/all", true}, {"/all/x/y", true}, {"//level", true}} {
		one := message{Topic: base + m.topic, Payload: "x", QoS: 1}
		if err := c.publish(ctx, one); err != nil {
			return err
		}
		if m.matches {
			seen = append(seen, one)
		}
	}
	return expect(ctx, c, seen...)
}

// retained: set, changed, seen with the flag by whoever comes later and without by whoever was there, cleared.
func retained(ctx context.Context, b *bench) error {
	topic := b.topic("retained")
	old, state := message{topic, "old", 1, true}, message{topic, "state", 1, true}
	live, end := message{topic, "live", 1, false}, message{topic, "end", 1, false}
	writer, err := b.connect(ctx, login{id: b.id("writer")})
	if err != nil {
		return err
	}
	late := func(id string) (client, error) {
		return b.connect(ctx, login{id: b.id(id), filters: []filter{{topic, 1}}})
	}
	if err := writer.publish(ctx, old, state); err != nil {
		return err
	}
	one, err := late("one")
	if err != nil {
		return err
	}
	cleared := message{Topic: topic, QoS: 1, Retain: true}
	err = first(
		func() error { return expect(ctx, one, state) },
		func() error { return writer.publish(ctx, live, cleared) },
		func() error { return expect(ctx, one, live, message{Topic: topic, QoS: 1}) },
	)
	if err != nil {
		return err
	}
	two, err := late("two")
	if err != nil {
		return err
	}
	return first(
		func() error { return writer.publish(ctx, end) },
		func() error { return expect(ctx, two, end) }, // nothing was kept
	)
}

// mortal is a watcher of a will, and the client whose will it is.
func mortal(ctx context.Context, b *bench, last message) (watcher, dying client, err error) {
	if watcher, err = b.connect(ctx, login{id: b.id("watcher"), filters: []filter{{last.Topic, last.QoS}}}); err != nil {
		return nil, nil, err
	}
	dying, err = b.connect(ctx, login{id: b.id("dying"), will: &last, filters: []filter{{b.topic("other"), 1}}})
	return watcher, dying, err
}

func will(ctx context.Context, b *bench) error {
	last := message{Topic: b.topic("will"), Payload: "gone", QoS: 1}
	watcher, dying, err := mortal(ctx, b, last)
	if err != nil {
		return err
	}
	return first(
		func() error { return dying.kill(ctx) },
		func() error { return expect(ctx, watcher, last) },
	)
}

func willRetained(ctx context.Context, b *bench) error {
	last := message{Topic: b.topic("will"), Payload: "gone", QoS: 1, Retain: true}
	watcher, dying, err := mortal(ctx, b, last)
	if err != nil {
		return err
	}
	seen := last
	seen.Retain = false // it was there when it came
	err = first(
		func() error { return dying.kill(ctx) },
		func() error { return expect(ctx, watcher, seen) },
	)
	if err != nil {
		return err
	}
	late, err := b.connect(ctx, login{id: b.id("late"), filters: []filter{{last.Topic, 1}}})
	if err != nil {
		return err
	}
	return expect(ctx, late, last)
}

// noWill: who takes leave has none.
func noWill(ctx context.Context, b *bench) error {
	if b.traits(b.variant).leavesWill {
		return errCannot
	}
	return leave(ctx, b, false)
}

// willAskedFor: unless it says so (MQTT 5, 3.14.2.1: Disconnect with Will Message).
func willAskedFor(ctx context.Context, b *bench) error {
	if !b.traits(b.variant).leavesWill {
		return errCannot
	}
	return leave(ctx, b, true)
}

func leave(ctx context.Context, b *bench, wanted bool) error {
	last := message{Topic: b.topic("will"), Payload: "gone", QoS: 1}
	end := message{Topic: last.Topic, Payload: "end", QoS: 1}
	watcher, leaving, err := mortal(ctx, b, last)
	if err != nil {
		return err
	}
	if err := leaving.disconnect(ctx); err != nil {
		return err
	}
	if err := b.settle(ctx, b.id("dying")); err != nil {
		return err
	}
	if err := watcher.publish(ctx, end); err != nil {
		return err
	}
	if wanted {
		return expect(ctx, watcher, last, end)
	}
	return expect(ctx, watcher, end)
}

// settle returns when the server has done all that is due to a client that has left: whoever comes with the same id comes
// after that.
func (b *bench) settle(ctx context.Context, id string) error {
	_, err := b.connect(ctx, login{id: id, filters: []filter{{b.topic("settle"), 1}}})
	return err
}

// sharedSubscription: each message goes to one member, every member gets some, and all go to the one that is left.
func sharedSubscription(ctx context.Context, b *bench) error {
	topic, end := b.topic("work"), message{Topic: b.topic("end"), Payload: "end", QoS: 1}
	var members []client
	for _, id := range []string{"one", "two"} {
		c, err := b.connect(ctx, login{id: b.id(id), filters: []filter{{"$share/crew/" + topic, 1}, {end.Topic, 1}}})
		if err != nil {
			return err
		}
		members = append(members, c)
	}
	writer, err := b.connect(ctx, login{id: b.id("writer")})
	if err != nil {
		return err
	}
	work := numbered(20, message{Topic: topic, QoS: 1})
	err = first(
		func() error { return writer.publish(ctx, work...) },
		func() error { return writer.publish(ctx, end) },
	)
	if err != nil {
		return err
	}
	var all []string
	for i, c := range members {
		share, err := until(ctx, c, end)
		if err != nil || len(share) == 0 {
			return errors.Join(fmt.Errorf("member %d got %d messages", i+1, len(share)), err)
		}
		all = append(all, share...)
	}
	if want := payloads(work); !slices.Equal(slices.Sorted(slices.Values(all)), slices.Sorted(slices.Values(want))) {
		return fmt.Errorf("the members got %q, want each once of %q", all, want)
	}
	return first(
		func() error { return members[0].disconnect(ctx) },
		func() error { return b.settle(ctx, b.id("one")) },
		func() error { return writer.publish(ctx, work...) },
		func() error { return expect(ctx, members[1], work...) },
	)
}

// until collects payloads until a message comes.
func until(ctx context.Context, c client, end message) (got []string, err error) {
	for {
		m, err := c.next(ctx)
		if err != nil || m == end {
			return got, err
		}
		got = append(got, m.Payload)
	}
}

func payloads(messages []message) (all []string) {
	for _, m := range messages {
		all = append(all, m.Payload)
	}
	return all
}

// resume: what came while the client was away, orderly or not, is there when it comes back, in order and once.
func resume(qos byte) func(context.Context, *bench) error {
	return func(ctx context.Context, b *bench) error {
		topic := b.topic("queue")
		as := login{id: b.id("reader"), keep: true, filters: []filter{{topic, qos}}}
		writer, err := b.connect(ctx, login{id: b.id("writer")})
		if err != nil {
			return err
		}
		reader, err := b.returning(ctx, as, false)
		if err != nil {
			return err
		}
		var seen []message
		for i, leave := range []func(client) error{
			func(c client) error { return c.disconnect(ctx) },
			func(c client) error { return c.kill(ctx) },
		} {
			missed := numbered(20+i, message{Topic: topic, QoS: qos})
			live := message{Topic: topic, Payload: "live", QoS: qos}
			err := first(
				func() error { return leave(reader) },
				func() error { return writer.publish(ctx, missed...) },
				func() error { reader, err = b.returning(ctx, as, true); return err },
				func() error { return expectBeside(ctx, reader, seen, missed...) },
				func() error { return writer.publish(ctx, live) },
				func() error { return expect(ctx, reader, live) },
			)
			if err != nil {
				return err
			}
			seen = append(missed, live)
		}
		return nil
	}
}

// returning connects and looks whether the server has the session when it should.
func (b *bench) returning(ctx context.Context, as login, want bool) (client, error) {
	c, err := b.connect(ctx, as)
	if err != nil {
		return nil, err
	}
	present, told := c.present()
	if told != b.traits(b.variant).tellsPresent || told && present != want {
		return nil, fmt.Errorf("session present %t (told: %t), want %t", present, told, want)
	}
	return c, nil
}

// cleanStart: a session that is not to be kept takes the one before with it.
func cleanStart(ctx context.Context, b *bench) error {
	topic := b.topic("queue")
	keep := login{id: b.id("reader"), keep: true, filters: []filter{{topic, 1}}}
	clean := login{id: keep.id, filters: []filter{{b.topic("other"), 1}}}
	writer, err := b.connect(ctx, login{id: b.id("writer")})
	if err != nil {
		return err
	}
	reader, err := b.returning(ctx, keep, false)
	if err != nil {
		return err
	}
	fresh := message{Topic: topic, Payload: "fresh", QoS: 1}
	return first(
		func() error { return reader.disconnect(ctx) },
		func() error { return writer.publish(ctx, message{Topic: topic, Payload: "stale", QoS: 1}) },
		func() error { reader, err = b.returning(ctx, clean, false); return err },
		func() error { return reader.disconnect(ctx) },
		func() error { reader, err = b.returning(ctx, keep, false); return err },
		func() error { return writer.publish(ctx, fresh) },
		func() error { return expect(ctx, reader, fresh) },
	)
}

// refused is how the makes word what the server says: 3.1.1 has code 5, and 5 has 0x86.
var refused = map[string]*regexp.Regexp{
	"3.1.1": regexp.MustCompile(`(?i)not authori[sz]ed`),
	"5":     regexp.MustCompile(`(?i)bad user name or password`),
}

// wrongSecret: the client is told why it cannot come in.
func wrongSecret(ctx context.Context, b *bench) error {
	as := login{id: b.id("c"), user: "service", password: "mtl_wrong"}
	if b.role == device {
		var err error
		if as, err = b.meter(ctx); err != nil {
			return err
		}
		as.password += "x"
	}
	as.filters = []filter{{b.topic("x"), 1}}
	_, err := b.attempt(ctx, as)
	if err == nil || !refused[b.version].MatchString(err.Error()) {
		return fmt.Errorf("it was told %w, want %v", err, refused[b.version])
	}
	return nil
}
