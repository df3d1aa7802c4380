package wiretest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// pahoCases tell what the interoperability suite of Eclipse Paho expects of a server, in our own words: where the
// specification leaves a choice, that suite has made it. Its topics are TopicA, TopicA/B, Topic/C, TopicA/C and /TopicA.
var pahoCases = []entry{
	{name: "paho/basic", v3: "3.3.4-1 3.1.0-2 3.1.2-1", v5: "3.3.4-1 3.1.0-2 3.1.2-1", run: func(t *T) {
		t.client().bye()
		c := t.client()
		c.sub(t.topic("TopicA"), 2)
		c.pub(t.topic("TopicA"), "qos 0", 0)
		c.pub(t.topic("TopicA"), "qos 1", 1)
		c.pub(t.topic("TopicA"), "qos 2", 2)
		var got []string
		for range 3 {
			p := c.message()
			c.accept(p)
			got = append(got, p.payload)
		}
		slices.Sort(got)
		same(t, "messages", got, []string{"qos 0", "qos 1", "qos 2"})
		c.bye()
	}},
	{name: "paho/retained messages, then cleared", v3: "3.3.1-5 3.3.1-10", v5: "3.3.1-5 3.3.1-6 3.3.2-17", run: func(t *T) {
		c := t.client()
		names := []string{"TopicA/B", "Topic/C", "TopicA/C"}
		for qos, name := range names {
			c.retain(t.topic(name), fmt.Sprint("qos ", qos), byte(qos), user("a", "2"), user("c", "3"))
		}
		c.sub(t.topic("+/+"), 2)
		seen := map[byte]bool{}
		for range names {
			p := c.message()
			c.accept(p)
			seen[p.qos] = p.retain
			if t.v == V5 {
				sameProps(t, p.props, []prop{user("a", "2"), user("c", "3")})
			}
		}
		if !seen[0] || !seen[1] || !seen[2] {
			t.fail("QoS %v", seen)
		}
		c.bye()
		c = t.client()
		for qos, name := range names {
			c.retain(t.topic(name), "", byte(qos))
		}
		c.sub(t.topic("+/+"), 2)
		c.nothing(c)
	}},
	{name: "paho/will of a client that is cut off, keep alive 2", v3: "3.1.2-8", v5: "3.1.2-8", run: func(t *T) {
		a := t.client(as("a"), keepAlive(2), lastWill(will{topic: t.topic("Topic/C"), payload: "client not disconnected"}))
		b := t.client(as("b"), persist(0)).sub(t.topic("Topic/C"), 2)
		a.drop()
		b.receive(t.topic("Topic/C"), "client not disconnected", 0)
	}},
	{name: "paho/empty client id", v3: "3.1.3-8 3.1.3-6", run: func(t *T) {
		none := func(h *hello) { h.id = "" }
		t.knock(t.hello(persist(0), none)).refused(2)
		t.client(none).bye()
	}},
	{name: "paho/offline messages", v3: "3.1.2-5", v5: "3.1.2-23", run: func(t *T) {
		t.client(as("a"), persist(60)).sub(t.topic("+/+"), 2).bye()
		b := t.client(as("b"))
		b.pub(t.topic("TopicA/B"), "qos 0", 0)
		b.pub(t.topic("Topic/C"), "qos 1", 1)
		b.pub(t.topic("TopicA/C"), "qos 2", 2)
		b.bye()
		c := back(t)
		if p := c.message(); p.qos == 1 {
			c.queue = append([]packet{p}, c.queue...)
		} else if p.payload != "qos 0" {
			t.fail("%v", p)
		}
		c.receive(t.topic("Topic/C"), "qos 1", 1)
		c.receive(t.topic("TopicA/C"), "qos 2", 2)
	}},
	{name: "paho/overlapping subscriptions, one copy or one of each QoS", v3: "3.3.5-1", v5: "3.3.4-2", run: func(t *T) {
		c := t.client()
		c.subscribe([]filter{{t.topic("TopicA/#"), 2}, {t.topic("TopicA/+"), 1}})
		c.pub(t.topic("TopicA/C"), "overlapping", 2)
		first := c.message()
		c.accept(first)
		if first.qos != 2 {
			c.receive(t.topic("TopicA/C"), "overlapping", 3-first.qos)
		}
	}},
	{name: "paho/keep alive of 2, then the will", v3: "3.1.2-24", v5: "3.1.2-22", run: func(t *T) {
		b := t.client(as("b"), keepAlive(0)).sub(t.topic("/TopicA"), 2)
		a := t.client(as("a"), keepAlive(2), lastWill(will{topic: t.topic("/TopicA"), payload: "keepalive expiry"}))
		a.expires(2 * time.Second)
		b.receive(t.topic("/TopicA"), "keepalive expiry", 0)
	}},
	{name: "paho/redelivery to a client that said DISCONNECT with messages on their way", v3: "4.4.0-1", v5: "4.4.0-1", run: func(t *T) {
		b := t.client(as("a"), persist(60)).sub(t.topic("TopicA/#"), 2)
		b.write(message{topic: t.topic("TopicA/B"), qos: 1, id: 50}.encode(t.v))
		b.acked(pubackType, 50)
		b.write(message{topic: t.topic("TopicA/C"), qos: 2, id: 51}.encode(t.v))
		b.acked(pubrecType, 51)
		b.release(51)
		b.expect(t.topic("TopicA/B"), "", 1)
		b.expect(t.topic("TopicA/C"), "", 2)
		b.bye()
		b = back(t)
		b.receive(t.topic("TopicA/B"), "", 1)
		b.receive(t.topic("TopicA/C"), "", 2)
	}},
	{name: "paho/a filter named nosubscribe is refused", v3: "3.8.4-5", v5: "3.8.4-7", option: "the suite is told to leave it out, or to expect it", run: func(t *T) {
		c := t.client()
		if code := c.subscribe([]filter{{map[Version]string{V3: "nosubscribe", V5: "test/nosubscribe"}[t.v], 2}})[0]; code != 0x80 && code != 0x87 {
			t.skip("granted: %#x", code)
		}
	}},
	{name: "paho/topics with $ do not reach wildcards", alone: true, v3: "4.7.2-1", v5: "4.7.2-1", run: func(t *T) {
		c := t.client()
		c.mine = t.unique
		c.sub("+/+", 0)
		c.write(message{topic: "$" + t.unique + "/B", payload: "x", qos: 1, id: 50}.encode(t.v))
		c.acked(pubackType, 50)
		c.nothing(t.another())
	}},
	{name: "paho/unsubscribe", v3: "3.10.4-2", v5: "3.10.4-2", run: func(t *T) {
		b, a := t.another(), t.another()
		b.sub(t.topic("TopicA"), 2).sub(t.topic("TopicA/B"), 2).sub(t.topic("Topic/C"), 2)
		b.unsubscribe(t.topic("TopicA"))
		for _, name := range []string{"TopicA", "TopicA/B", "Topic/C"} {
			a.pub(t.topic(name), name, 1)
		}
		b.receive(t.topic("TopicA/B"), "TopicA/B", 1)
		b.receive(t.topic("Topic/C"), "Topic/C", 1)
		b.nothing(a)
	}},
	{name: "paho/one copy with all subscription identifiers", v5: "3.3.4-4", option: "one copy is the choice the suite wants", run: func(t *T) {
		a, b := t.another().sub(t.topic("TopicA"), 2, num(subscriptionIdentifier, 456789)), t.another()
		b.sub(t.topic("TopicA"), 2, num(subscriptionIdentifier, 2)).sub(t.topic("TopicA/#"), 2, num(subscriptionIdentifier, 3))
		b.pub(t.topic("TopicA"), "sub identifier test", 1)
		wantIdentifiers(t, a.receive(t.topic("TopicA"), "sub identifier test", 1), 456789)
		p := b.receive(t.topic("TopicA"), "sub identifier test", 1)
		slices.SortFunc(p.props, func(x, y prop) int { return int(x.n) - int(y.n) })
		wantIdentifiers(t, p, 2, 3)
		b.nothing(a)
	}},
	{name: "paho/request and response", v5: "3.3.2-15 3.3.2-16 3.8.3-3", run: func(t *T) {
		a, b := t.another().sub(t.topic("TopicA"), 2|noLocal), t.another().sub(t.topic("TopicA"), 2|noLocal)
		how := []prop{str(responseTopic, t.topic("TopicA")), str(correlationData, "334")}
		a.pub(t.topic("TopicA"), "request", 1, how...)
		p := b.receive(t.topic("TopicA"), "request", 1)
		sameProps(t, p.props, how)
		b.pub(p.props[0].s, "response", 1, p.props...)
		a.receive(t.topic("TopicA"), "response", 1)
		a.nothing(b)
		b.nothing(a)
	}},
	{name: "paho/topic aliases of the server's", v5: "3.3.2.3.4", option: "that the server uses those it may use is what the suite wants", run: func(t *T) {
		c := t.client(with(num(topicAliasMaximum, 1)))
		c.sub(t.topic("TopicA"), 2)
		for qos := range byte(3) {
			c.pub(t.topic("TopicA"), "topic alias 1", qos)
			p := c.receive(t.topic("TopicA"), "topic alias 1", qos)
			if _, ok := find(p.props, topicAlias); !ok {
				t.fail("no topic alias in %v", p)
			}
		}
	}},
	{name: "paho/maximum packet size of 64", v5: "3.1.2-24 3.1.2-25", run: func(t *T) {
		c := t.client(with(num(maximumPacketSize, 64)))
		c.sub(t.topic("TopicA"), 2)
		c.pub(t.topic("TopicA"), strings.Repeat(".", 32), 0)
		c.receive(t.topic("TopicA"), strings.Repeat(".", 32), 0)
		c.pub(t.topic("TopicA"), strings.Repeat(".", 64), 1)
		c.nothing(c)
	}},
	{name: "paho/server keep alive of 60 for who asks for 120", v5: "3.2.2.3.14", option: "the suite expects a server that is set up so", run: func(t *T) {
		c := t.client(keepAlive(120))
		if p, _ := find(c.ack.props, serverKeepAlive); p.n != 60 {
			t.skip("the server's keep alive is %d", p.n)
		}
	}},
	{name: "paho/flow control of the client's", v5: "3.3.4-9", run: func(t *T) {
		c := t.client(with(num(receiveMaximum, 2)))
		c.sub(t.topic("TopicA"), 2)
		for id := uint16(1); id <= 3; id++ {
			c.write(message{topic: t.topic("TopicA"), payload: fmt.Sprint("message ", id), qos: 1, id: 100 + id}.encode(t.v))
		}
		one, two := c.message(), c.message()
		for id := uint16(1); id <= 3; id++ {
			c.acked(pubackType, 100+id)
		}
		t.pause(300 * time.Millisecond)
		c.nothing(c)
		c.puback(one)
		three := c.message()
		c.puback(two)
		c.puback(three)
		c.bye()
	}},
	{name: "paho/flow control of the server's", v5: "3.3.4-7", bad: true, run: func(t *T) {
		c := t.client()
		m, ok := find(c.ack.props, receiveMaximum)
		if !ok || m.n > 5000 {
			t.skip("the server's receive maximum is %d", m.n)
		}
		for id := uint16(1); id <= uint16(m.n)+1; id++ {
			c.try(message{topic: t.topic("TopicA"), payload: "message", qos: 2, id: id}.encode(t.v))
		}
		c.dies(0x93)
	}},
	{name: "paho/shared subscription beside a plain one", v5: "4.8.2", run: func(t *T) {
		both := func() *conn {
			c := t.another()
			c.subscribe([]filter{{"$share/sharename/" + t.topic("x"), 2}, {t.topic("TopicA"), 2}})
			return c
		}
		a, b := both(), both()
		b.pub(t.topic("TopicA"), "message 0", 0)
		a.receive(t.topic("TopicA"), "message 0", 0)
		b.receive(t.topic("TopicA"), "message 0", 0)
		marker := t.topic("end")
		a.sub(marker, 0)
		b.sub(marker, 0)
		b.pub(t.topic("x"), "message 0", 0)
		b.pub(marker, "end", 0)
		same(t, "shared", append(a.drain(marker), b.drain(marker)...), []string{"message 0"})
	}},
	{name: "paho/queued messages that expire", v5: "3.3.2-5 3.3.2-6", run: func(t *T) {
		t.client(as("a"), fresh(99999)).sub(t.topic("TopicA"), 2).bye(num(sessionExpiry, 999999999))
		publisher := t.another()
		publisher.pub(t.topic("TopicA"), "qos 1 - expire", 1, num(messageExpiry, 1))
		publisher.pub(t.topic("TopicA"), "qos 2 - expire", 2, num(messageExpiry, 1))
		publisher.pub(t.topic("TopicA"), "qos 1 - don't expire", 1, num(messageExpiry, 30))
		publisher.pub(t.topic("TopicA"), "qos 2 - don't expire", 2, num(messageExpiry, 30))
		t.pause(3 * time.Second)
		c := t.client(as("a"), func(h *hello) { h.clean = false })
		wantExpiry(t, c.receive(t.topic("TopicA"), "qos 1 - don't expire", 1), 1, 29)
		wantExpiry(t, c.receive(t.topic("TopicA"), "qos 2 - don't expire", 2), 1, 29)
		c.nothing(publisher)
	}},
	{name: "paho/will delay of 3 and a session of 5, delay of 5 and a session of 2", v5: "3.1.2-8", run: func(t *T) {
		watcher := watched(t, 2)
		for _, c := range []struct {
			delay, expiry uint32
			after         time.Duration
		}{{3, 5, 3 * time.Second}, {5, 0, 0}, {5, 2, 2 * time.Second}} {
			dropped := t.client(as("a"), fresh(c.expiry), theWill(t, func(w *will) { w.qos, w.props = 0, []prop{num(willDelay, c.delay)} }))
			began := time.Now()
			dropped.drop()
			p, err := watcher.read(c.after + t.patience)
			if took := time.Since(began); err != nil || p.topic != t.topic("w") || took < c.after || took > c.after+max(2*time.Second, t.slack()) {
				t.fail("%v, %v after %v, wanted %v and up to 2 s more", p, err, took, c.after)
			}
		}
	}},
}
