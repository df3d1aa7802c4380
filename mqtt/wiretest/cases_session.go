package wiretest

import (
	"time"
)

var sessionCases = []entry{
	{name: "session/none is present at first", v3: "3.2.2-3 3.2.2-2", v5: "3.2.2-3 3.1.2-6", run: func(t *T) {
		t.client(persist(60)).present(false).bye()
	}},
	{name: "session/kept and resumed", v3: "3.1.2-4 3.2.2-2 3.2.2-3 4.1.0-1", v5: "3.1.2-5 3.2.2-3 3.1.2-23 4.1.0-1", run: func(t *T) {
		t.client(persist(60)).sub(t.topic("a"), 1).bye()
		for range 3 {
			c := t.client(persist(60)).present(true)
			c.pub(t.topic("a"), "x", 1)
			c.receive(t.topic("a"), "x", 1)
			c.bye()
		}
	}},
	{name: "session/kept without a subscription in it", v3: "3.2.2-2 3.1.2-4", v5: "3.2.2-3 3.1.2-23", run: func(t *T) {
		t.client(persist(60)).bye()
		t.client(persist(60)).present(true).bye()
	}},
	{name: "session/kept when the network fails", v3: "3.1.2-4 3.1.2-5", v5: "3.1.2-23 3.1.2-5", run: func(t *T) {
		t.client(persist(60)).sub(t.topic("a"), 1).drop()
		c := t.client(persist(60)).present(true)
		c.pub(t.topic("a"), "x", 1)
		c.receive(t.topic("a"), "x", 1)
	}},
	{name: "session/a clean one ends with its connection", v3: "3.1.2-6 3.2.2-3", v5: "3.1.2-4 4.1.0-2", run: func(t *T) {
		t.client().sub(t.topic("a"), 1).bye()
		c := t.client(persist(60)).present(false)
		c.pub(t.topic("a"), "x", 1)
		c.nothing(c)
	}},
	{name: "session/a clean start discards the one before", v3: "3.1.2-6 3.2.2-1", v5: "3.1.2-4 3.2.2-2", run: func(t *T) {
		t.client(persist(60)).sub(t.topic("a"), 1).bye()
		c := t.client().present(false)
		c.pub(t.topic("a"), "x", 1)
		c.nothing(c)
		c.bye()
		t.client(persist(60)).present(false).bye()
	}},
	{name: "session/a client id of one user is another session than a similar one", v3: "3.1.3-2", v5: "3.1.3-2", run: func(t *T) {
		t.client(as("a"), persist(60)).bye()
		t.client(as("A"), persist(60)).present(false).bye()
		t.client(as("aa"), persist(60)).present(false).bye()
	}},
	{name: "session/3.1.1 and 5 share a client's session", v3: "3.1.2-4", v5: "3.1.2-5", option: "no specification says so, and clients are updated", run: func(t *T) {
		older := t.v
		c := t.client(persist(60))
		c.sub(t.topic("a"), 1)
		c.bye()
		t.v = V3 + V5 - older
		c = t.client(persist(60)).present(true)
		c.pub(t.topic("a"), "x", 1)
		c.receive(t.topic("a"), "x", 1)
	}},
	{name: "session/3.1.1 and 5 side by side", v3: "3.3.4-1", v5: "3.3.4-1", run: func(t *T) {
		c := t.another()
		c.sub(t.topic("a"), 2)
		t.v = V3 + V5 - t.v
		other := t.another()
		other.sub(t.topic("a"), 2)
		for qos := range byte(3) {
			other.pub(t.topic("a"), "from the other", qos)
			c.receive(t.topic("a"), "from the other", qos)
			other.receive(t.topic("a"), "from the other", qos)
			c.pub(t.topic("a"), "back", qos)
			c.receive(t.topic("a"), "back", qos)
			other.receive(t.topic("a"), "back", qos)
		}
	}},
}

var expiryCases = []entry{
	{name: "expiry/0 and absent end the session with the connection", v5: "3.1.2.11.2 4.1.0-2 3.1.2-23", run: func(t *T) {
		for _, opts := range [][]opt{nil, {fresh(0)}, {func(h *hello) { h.clean = false }}, {persist(0)}} {
			t.client(opts...).present(false).bye()
			t.client(func(h *hello) { h.clean = false }).present(false).bye()
		}
	}},
	{name: "expiry/0 ends a session that was kept before", v5: "3.1.2.11.2 4.1.0-2", run: func(t *T) {
		t.client(persist(60)).bye()
		t.client(persist(0)).present(true).bye()
		t.client(persist(0)).present(false).bye()
	}},
	{name: "expiry/passes", v5: "4.1.0-2 3.1.2-23", run: func(t *T) {
		t.client(fresh(1)).sub(t.topic("a"), 1).bye()
		t.pause(2500 * time.Millisecond)
		c := t.client(persist(60)).present(false)
		c.pub(t.topic("a"), "x", 1)
		c.nothing(c)
	}},
	{name: "expiry/has not passed", v5: "3.1.2-23 3.1.2-5", run: func(t *T) {
		t.client(fresh(20)).sub(t.topic("a"), 1).bye()
		t.pause(time.Second)
		t.client(persist(20)).present(true).bye()
	}},
	{name: "expiry/is counted from the end of the connection", v5: "3.1.2.11.2 4.1.0-1", run: func(t *T) {
		c := t.client(fresh(5))
		t.pause(6200 * time.Millisecond)
		c.bye()
		t.client(persist(0)).present(true).bye()
	}},
	{name: "expiry/the largest is never", v5: "3.1.2.11.2", run: func(t *T) {
		c := t.client(fresh(0xffffffff))
		c.bye()
		t.client(persist(0)).present(true).bye()
	}},
	{name: "expiry/changed in DISCONNECT", v5: "3.14.2.2.2 4.1.0-2", run: func(t *T) {
		t.client(fresh(1)).bye(num(sessionExpiry, 60))
		t.pause(2200 * time.Millisecond)
		t.client(persist(60)).present(true).bye(num(sessionExpiry, 0))
		t.client(persist(60)).present(false).bye(num(sessionExpiry, 1))
		t.pause(2200 * time.Millisecond)
		t.client(persist(0)).present(false).bye()
	}},
	{name: "expiry/not from 0 in DISCONNECT", v5: "3.14.2.2.2", bad: true, run: func(t *T) {
		for _, opts := range [][]opt{nil, {fresh(0)}} {
			c := t.client(opts...)
			c.write(disconnectPacket(t.v, 0, num(sessionExpiry, 10)))
			c.dies(0x82)
			t.client(persist(0)).present(false).bye()
		}
	}},
	{name: "expiry/of the session takes subscriptions and queue along", v5: "4.1.0-2", run: func(t *T) {
		t.client(fresh(1)).sub(t.topic("a"), 1).bye()
		publisher := t.another()
		publisher.pub(t.topic("a"), "queued", 1)
		t.pause(2500 * time.Millisecond)
		publisher.pub(t.topic("a"), "for nobody", 1)
		t.client(persist(60)).present(false).nothing(publisher)
	}},
	{name: "expiry/of messages in the queue", v5: "3.3.2-5 3.3.2-6", run: func(t *T) {
		c := t.client(as("a"), persist(60))
		c.sub(t.topic("a"), 2)
		c.bye()
		publisher := t.another()
		for qos := byte(1); qos < 3; qos++ {
			publisher.pub(t.topic("a"), "short", qos, num(messageExpiry, 1))
			publisher.pub(t.topic("a"), "long", qos, num(messageExpiry, 100))
			publisher.pub(t.topic("a"), "for ever", qos)
		}
		t.pause(2200 * time.Millisecond)
		c = back(t)
		for qos := byte(1); qos < 3; qos++ {
			wantExpiry(t, c.receive(t.topic("a"), "long", qos), 80, 98)
			if p := c.receive(t.topic("a"), "for ever", qos); len(all(p.props, messageExpiry)) > 0 {
				t.fail("%v %v", p, p.props)
			}
		}
		c.nothing(publisher)
	}},
	{name: "expiry/of messages that go on at once", v5: "3.3.2-6", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 2)
		for qos := range byte(3) {
			c.pub(t.topic("a"), "x", qos, num(messageExpiry, 100))
			wantExpiry(t, c.receive(t.topic("a"), "x", qos), 80, 100)
		}
		c.pub(t.topic("a"), "long", 1, num(messageExpiry, 0xffffffff))
		wantExpiry(t, c.receive(t.topic("a"), "long", 1), 0xfffffff0, 0xffffffff)
	}},
	{name: "expiry/of messages behind a full window", v5: "3.3.2-5 3.3.4-9", run: func(t *T) {
		c, publisher := t.another(with(num(receiveMaximum, 1))), t.another()
		c.sub(t.topic("a"), 1)
		publisher.pub(t.topic("a"), "first", 1)
		p := c.expect(t.topic("a"), "first", 1)
		publisher.pub(t.topic("a"), "short", 1, num(messageExpiry, 1))
		publisher.pub(t.topic("a"), "last", 1)
		t.pause(2200 * time.Millisecond)
		c.accept(p)
		c.receive(t.topic("a"), "last", 1)
		c.nothing(publisher)
	}},
	{name: "expiry/not of a QoS 2 message that was sent", v5: "4.3.3-7 4.3.3-13 4.4.0-1", run: func(t *T) {
		c, publisher := t.client(as("a"), persist(60)), t.another()
		c.sub(t.topic("a"), 2)
		publisher.pub(t.topic("a"), "short", 2, num(messageExpiry, 4))
		p := c.expect(t.topic("a"), "short", 2)
		t.pause(5200 * time.Millisecond)
		c.accept(p)
		c.nothing(publisher)
		publisher.pub(t.topic("a"), "sent", 2, num(messageExpiry, 4))
		c.expect(t.topic("a"), "sent", 2)
		c.drop()
		t.pause(5200 * time.Millisecond)
		back(t).receive(t.topic("a"), "sent", 2)
	}},
}
