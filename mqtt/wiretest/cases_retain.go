package wiretest

import (
	"fmt"
	"slices"
	"time"
)

var retainCases = []entry{
	{name: "retain/a new subscription gets it", v3: "3.3.1-5 3.3.1-6 3.3.1-8", v5: "3.3.1-5 3.3.1-9 3.3.1-13", run: func(t *T) {
		publisher, reader := t.another(), t.another()
		for sent := range byte(3) {
			topic := t.topic(fmt.Sprint(sent))
			publisher.retain(topic, "kept", sent)
			for granted := range byte(3) {
				reader.sub(topic, granted)
				if p := reader.receive(topic, "kept", min(sent, granted)); !p.retain || p.dup {
					t.fail("%v", p)
				}
				reader.unsubscribe(topic)
			}
		}
	}},
	{name: "retain/an established subscription gets it without the flag", v3: "3.3.1-9", v5: "3.3.1-12", run: func(t *T) {
		publisher, reader := t.another(), t.another()
		reader.sub(t.topic("a"), 1)
		for range 2 {
			publisher.retain(t.topic("a"), "x", 1)
			if p := reader.receive(t.topic("a"), "x", 1); p.retain {
				t.fail("%v", p)
			}
		}
	}},
	{name: "retain/the last one counts", v3: "3.3.1-5 3.3.1-7", v5: "3.3.1-5", run: func(t *T) {
		publisher, reader := t.another(), t.another()
		for i, qos := range []byte{1, 0, 2, 0, 1} {
			publisher.retain(t.topic("a"), fmt.Sprint(i), qos)
			reader.sub(t.topic("a"), 2)
			reader.receive(t.topic("a"), fmt.Sprint(i), qos)
			reader.unsubscribe(t.topic("a"))
		}
	}},
	{name: "retain/an empty payload takes it away", v3: "3.3.1-10 3.3.1-11", v5: "3.3.1-6 3.3.1-7", run: func(t *T) {
		publisher, reader, established := t.another(), t.another(), t.another()
		established.sub(t.topic("a"), 2)
		for qos := range byte(3) {
			publisher.retain(t.topic("a"), "kept", 1)
			publisher.retain(t.topic("a"), "", qos)
			established.receive(t.topic("a"), "kept", 1)
			if p := established.receive(t.topic("a"), "", qos); p.retain {
				t.fail("%v", p)
			}
			reader.sub(t.topic("a"), 2)
			reader.nothing(publisher)
			reader.unsubscribe(t.topic("a"))
		}
	}},
	{name: "retain/a message without the flag changes nothing", v3: "3.3.1-12", v5: "3.3.1-8", run: func(t *T) {
		publisher, reader := t.another(), t.another()
		publisher.retain(t.topic("a"), "kept", 1)
		publisher.pub(t.topic("a"), "not kept", 1)
		publisher.pub(t.topic("a"), "", 1)
		publisher.pub(t.topic("b"), "not kept", 1)
		reader.sub(t.topic("+"), 1)
		reader.receive(t.topic("a"), "kept", 1)
		reader.nothing(publisher)
	}},
	{name: "retain/is no part of a session", v3: "3.1.2-7", v5: "3.3.1-5", run: func(t *T) {
		publisher := t.client(as("p"))
		publisher.retain(t.topic("a"), "kept", 1)
		publisher.bye()
		t.client(as("p")).bye()
		c := t.client(as("a"))
		c.sub(t.topic("a"), 1)
		c.receive(t.topic("a"), "kept", 1)
	}},
	{name: "retain/every topic that matches, once for each filter", v3: "3.3.1-6", v5: "3.3.1-9", run: func(t *T) {
		publisher, reader := t.another(), t.another()
		for _, name := range []string{"a", "a/b", "a/b/c", "d"} {
			publisher.retain(t.topic(name), name, 1)
		}
		for f, want := range map[string][]string{
			"#": {"a", "a/b", "a/b/c", "d"}, "a/#": {"a", "a/b", "a/b/c"}, "+": {"a", "d"}, "a/+": {"a/b"}, "+/b/#": {"a/b", "a/b/c"}, "a/b": {"a/b"}, "a/+/c": {"a/b/c"},
		} {
			reader.sub(t.topic(f), 1)
			got := reader.payloads(len(want), 1)
			slices.Sort(got)
			same(t, f, got, want)
			reader.unsubscribe(t.topic(f))
			reader.nothing(publisher)
		}
	}},
	{name: "retain/sent again when subscribed again", v3: "3.8.4-3", v5: "3.8.4-4 3.3.1-9", run: func(t *T) {
		c := t.client()
		c.retain(t.topic("a"), "kept", 1)
		for range 3 {
			c.sub(t.topic("a"), 1)
			c.receive(t.topic("a"), "kept", 1)
		}
		c.nothing(c)
	}},
	{name: "retain/not sent when a session is resumed", v3: "3.3.1-6", v5: "3.3.1-9", run: func(t *T) {
		publisher := t.another()
		publisher.retain(t.topic("a"), "kept", 1)
		c := t.client(as("a"), persist(60))
		c.sub(t.topic("a"), 1)
		c.receive(t.topic("a"), "kept", 1)
		c.bye()
		back(t).nothing(publisher)
	}},
	{name: "retain/for a topic of another's subscription that is queued", v3: "3.3.1-9 3.1.2-5", v5: "3.3.1-12 3.1.2-23", run: func(t *T) {
		away(t, 1)
		publisher := t.another()
		publisher.retain(t.topic("a"), "kept", 1)
		if p := back(t).receive(t.topic("a"), "kept", 1); p.retain {
			t.fail("%v", p)
		}
	}},
	{name: "retain/handling 0", v5: "3.3.1-9", run: func(t *T) { handling(t, 0, 1, 1) }},
	{name: "retain/handling 1", v5: "3.3.1-10", run: func(t *T) { handling(t, retainIfNew, 1, 0) }},
	{name: "retain/handling 2", v5: "3.3.1-11", run: func(t *T) { handling(t, retainNever, 0, 0) }},
	{name: "retain/handling 1 with another QoS and in a resumed session", v5: "3.3.1-10", run: func(t *T) {
		publisher := t.another()
		away(t, 1)
		publisher.retain(t.topic("a"), "kept", 1)
		c := back(t)
		c.receive(t.topic("a"), "kept", 1)
		c.sub(t.topic("a"), 0|retainIfNew)
		c.nothing(publisher)
		c.unsubscribe(t.topic("a"))
		c.sub(t.topic("a"), 1|retainIfNew)
		c.receive(t.topic("a"), "kept", 1)
	}},
	{name: "retain/as published", v5: "3.3.1-12 3.3.1-13", run: func(t *T) {
		publisher, as, plain := t.another(), t.another(), t.another()
		as.sub(t.topic("a"), 1|retainAsPublished)
		plain.sub(t.topic("a"), 1)
		for _, retain := range []bool{false, true} {
			publisher.publish(message{topic: t.topic("a"), payload: "x", qos: 1, retain: retain})
			if p := as.receive(t.topic("a"), "x", 1); p.retain != retain {
				t.fail("%v", p)
			}
			if p := plain.receive(t.topic("a"), "x", 1); p.retain {
				t.fail("%v", p)
			}
		}
	}},
	{name: "retain/a new subscription gets the flag whatever it says of as published", v5: "3.3.1.3", run: func(t *T) {
		publisher := t.another()
		publisher.retain(t.topic("a"), "kept", 1)
		for _, options := range []byte{0, retainAsPublished} {
			c := t.another()
			c.sub(t.topic("a"), 1|options)
			if p := c.receive(t.topic("a"), "kept", 1); !p.retain {
				t.fail("%v", p)
			}
		}
	}},
	{name: "retain/expires", v5: "3.3.2-5 3.3.2.3.3", run: func(t *T) {
		publisher := t.another()
		publisher.retain(t.topic("short"), "short", 1, num(messageExpiry, 1))
		publisher.retain(t.topic("long"), "long", 1, num(messageExpiry, 100))
		t.pause(2200 * time.Millisecond)
		c := t.another()
		c.sub(t.topic("+"), 1)
		wantExpiry(t, c.receive(t.topic("long"), "long", 1), 80, 98)
		c.nothing(publisher)
	}},
}

// handling subscribes twice with the options to a topic that has a retained message.
func handling(t *T, options byte, first, second int) {
	publisher, c := t.another(), t.another()
	publisher.retain(t.topic("a"), "kept", 1)
	for _, n := range []int{first, second} {
		c.sub(t.topic("+"), 1|options)
		for range n {
			c.receive(t.topic("a"), "kept", 1)
		}
		c.nothing(publisher)
	}
	publisher.pub(t.topic("a"), "live", 1)
	c.receive(t.topic("a"), "live", 1)
}

// wantExpiry wants the message expiry to lie between the two.
func wantExpiry(t *T, p packet, least, most uint32) {
	if e, ok := find(p.props, messageExpiry); !ok || e.n < least || e.n > most {
		t.fail("%v expires in %v, wanted %d to %d", p, p.props, least, most)
	}
}
