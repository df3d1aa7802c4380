package wiretest

import (
	"time"
)

var keepAliveCases = []entry{
	{name: "keepalive/a silent client is closed", v3: "3.1.2-24", v5: "3.1.2-22 3.2.2-22", run: func(t *T) {
		t.client(keepAlive(1)).expires(time.Second)
	}},
	{name: "keepalive/what the server sends does not count", v3: "3.1.2-24", v5: "3.1.2-22", run: func(t *T) {
		publisher := t.another()
		c := t.client(keepAlive(3)) // and not 1: it has 4.5 s to subscribe, on any machine
		c.sub(t.topic("a"), 0)
		began := time.Now()
		for time.Since(began) < 3600*time.Millisecond {
			publisher.pub(t.topic("a"), "to a client that says nothing", 0)
			t.pause(200 * time.Millisecond)
		}
		c.diesWithin(time.Second+t.patience, 0x8d)
	}},
	{name: "keepalive/any packet keeps it alive", v3: "3.1.2-24 3.12.4-1", v5: "3.1.2-22 3.12.4-1", run: func(t *T) {
		c := t.client(keepAlive(3))
		for i := range 8 {
			t.pause(800 * time.Millisecond)
			if i%2 == 0 {
				c.ping()
			} else {
				c.write(message{topic: t.topic("a"), payload: "I am here"}.encode(t.v))
			}
		}
		c.ping()
	}},
	{name: "keepalive/0 switches it off", v3: "3.1.2.10", v5: "3.1.2.10", run: func(t *T) {
		c := t.client(keepAlive(0))
		t.pause(2500 * time.Millisecond)
		c.ping()
	}},
	{name: "keepalive/the largest there are", v3: "3.1.2.10", v5: "3.1.2.10", run: func(t *T) {
		each(t, "keep alive", []uint16{43690, 43691, 50000, 65535}, func(seconds uint16) {
			c := t.another(keepAlive(seconds))
			t.pause(20 * time.Millisecond)
			c.ping()
		})
	}},
	{name: "keepalive/the will of a silent client is published", v3: "3.1.2-8 3.1.2-24", v5: "3.1.2-8 3.1.2-22", run: func(t *T) {
		watcher := t.another()
		watcher.sub(t.topic("w"), 1)
		t.client(keepAlive(1), lastWill(will{topic: t.topic("w"), payload: "fell silent", qos: 1})).expires(time.Second)
		watcher.receive(t.topic("w"), "fell silent", 1)
	}},
}

var takeoverCases = []entry{
	{name: "takeover/the older connection is closed", v3: "3.1.4-2", v5: "3.1.4-3 4.13.2-1", run: func(t *T) {
		for range 3 {
			older := t.client()
			newer := t.client()
			older.dies(0x8e)
			newer.ping()
			newer.bye()
		}
	}},
	{name: "takeover/the session goes on", v3: "3.1.4-2 3.1.2-4 4.4.0-1", v5: "3.1.4-3 3.1.2-5 4.4.0-1", run: func(t *T) {
		older := t.client(persist(60)).present(false)
		older.sub(t.topic("a"), 1)
		publisher := t.another()
		publisher.pub(t.topic("a"), "before", 1)
		first := older.expect(t.topic("a"), "before", 1)
		newer := t.client(persist(60)).present(true)
		older.dies(0x8e)
		again := newer.receive(t.topic("a"), "before", 1)
		if again.id != first.id || !again.dup {
			t.fail("sent again as %v, first as %v", again, first)
		}
		publisher.pub(t.topic("a"), "after", 1)
		newer.receive(t.topic("a"), "after", 1)
		newer.nothing(publisher)
	}},
	{name: "takeover/a clean start ends the older session", v3: "3.1.4-3 3.1.2-6", v5: "3.1.4-4 3.1.2-4", run: func(t *T) {
		older := t.client(persist(60))
		older.sub(t.topic("a"), 1)
		newer := t.client().present(false)
		older.dies(0x8e)
		newer.write(message{topic: t.topic("a"), payload: "nobody is subscribed", qos: 1, id: 1}.encode(t.v))
		newer.acked(pubackType, 1)
		newer.nothing(newer)
	}},
	{name: "takeover/the older connection's will is published", v3: "3.1.2-8", v5: "3.1.2-8", run: func(t *T) {
		watcher := t.another()
		watcher.sub(t.topic("w"), 1)
		older := t.client(lastWill(will{topic: t.topic("w"), payload: "taken over", qos: 1}))
		t.client()
		older.dies(0x8e)
		watcher.receive(t.topic("w"), "taken over", 1)
	}},
	{name: "takeover/by a client of the other version", v3: "3.1.4-2", v5: "3.1.4-3", run: func(t *T) {
		older := t.client()
		t.v = V3 + V5 - t.v
		newer := t.client()
		older.dies(0x8e) // to 3.1.1 there is no word of it
		newer.ping()
	}},
	{name: "takeover/many at once leave one", v3: "3.1.4-2", v5: "3.1.4-3", run: func(t *T) {
		var alive []*conn
		for range 8 {
			alive = append(alive, t.dial())
		}
		for _, c := range alive {
			c.said = t.hello()
			c.try(c.said.encode())
		}
		deadline := time.Now().Add(t.patience)
		for len(alive) != 1 {
			if len(alive) == 0 || time.Now().After(deadline) {
				t.fail("%d of 8 connections with one client id are alive", len(alive))
			}
			alive = answering(alive)
		}
		alive[0].ping()
	}},
	{name: "takeover/the newest of many can be reached", v3: "3.1.4-2", v5: "3.1.4-3", run: func(t *T) {
		publisher := t.another()
		for range 10 {
			c := t.client()
			c.sub(t.topic("a"), 1)
			publisher.pub(t.topic("a"), "here?", 1)
			c.receive(t.topic("a"), "here?", 1)
		}
	}},
}

// answering are those of the connections that still answer.
func answering(list []*conn) (alive []*conn) {
	for _, c := range list {
		c.try(pingreq)
		for {
			p, err := c.read(c.t.patience)
			if err != nil {
				break
			}
			if p.typ == pingrespType {
				alive = append(alive, c)
				break
			}
		}
	}
	return alive
}
