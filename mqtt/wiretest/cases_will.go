package wiretest

import (
	"fmt"
	"time"
)

// watched is a client that is subscribed to the topic "w".
func watched(t *T, options byte) *conn { return t.another().sub(t.topic("w"), options) }

func theWill(t *T, change ...func(*will)) opt {
	w := will{topic: t.topic("w"), payload: "gone", qos: 1}
	for _, f := range change {
		f(&w)
	}
	return lastWill(w)
}

var willCases = []entry{
	{name: "will/published when the network fails", v3: "3.1.2-8", v5: "3.1.2-7 3.1.2-8 3.1.2-14", run: func(t *T) {
		watcher := watched(t, 2)
		for qos := range byte(3) {
			c := t.client(as("a"), theWill(t, func(w *will) { w.qos = qos }))
			watcher.nothing(c)
			c.drop()
			if p := watcher.receive(t.topic("w"), "gone", qos); p.retain {
				t.fail("%v", p)
			}
		}
		watcher.nothing(t.another())
	}},
	{name: "will/published when the client breaks the protocol", v3: "3.1.2-8 4.8.0-1", v5: "3.1.2-8 4.13.1-1", bad: true, run: func(t *T) {
		watcher := watched(t, 1)
		c := t.client(as("a"), theWill(t))
		c.write([]byte{0x36, 0})
		c.dies(wrong...)
		watcher.receive(t.topic("w"), "gone", 1)
	}},
	{name: "will/published once", v3: "3.1.2-8", v5: "3.1.2-10", run: func(t *T) {
		watcher := watched(t, 1)
		c := t.client(as("a"), persist(60), theWill(t))
		c.drop()
		watcher.receive(t.topic("w"), "gone", 1)
		t.client(as("a"), persist(60)).drop() // without a will this time
		t.client(as("a"), persist(60)).bye()
		watcher.nothing(t.another())
	}},
	{name: "will/discarded with DISCONNECT", v3: "3.1.2-10 3.14.4-3", v5: "3.1.2-10 3.14.4-3", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), theWill(t)).bye()
		t.client(as("a"), persist(60), theWill(t)).bye()
		watcher.nothing(t.another())
	}},
	{name: "will/published with DISCONNECT 0x04", v5: "3.14.4-3 3.1.2-8 3.14.2.1", run: func(t *T) {
		watcher := watched(t, 1)
		c := t.client(as("a"), theWill(t))
		c.write(disconnectPacket(t.v, 4))
		c.dies()
		watcher.receive(t.topic("w"), "gone", 1)
	}},
	{name: "will/published with any other code of DISCONNECT", v5: "3.1.2-8 3.14.2.1", run: func(t *T) {
		watcher := watched(t, 1)
		for _, code := range []byte{0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99} {
			c := t.client(as("a"), theWill(t))
			c.write(disconnectPacket(t.v, code))
			c.dies()
			watcher.receive(t.topic("w"), "gone", 1)
		}
	}},
	{name: "will/retained", v3: "3.1.2-17 3.1.2-16", v5: "3.1.2-15 3.1.2-14", run: func(t *T) {
		watcher := watched(t, 1)
		for _, retain := range []bool{false, true} {
			c := t.client(as("a"), theWill(t, func(w *will) { w.retain = retain }))
			c.drop()
			if p := watcher.receive(t.topic("w"), "gone", 1); p.retain {
				t.fail("%v", p)
			}
			late := watched(t, 1)
			if retain {
				if p := late.receive(t.topic("w"), "gone", 1); !p.retain {
					t.fail("%v", p)
				}
			}
			late.nothing(watcher)
		}
		watcher.retain(t.topic("w"), "", 1)
	}},
	{name: "will/without a payload", v3: "3.1.3.3", v5: "3.1.3.4", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), theWill(t, func(w *will) { w.payload = "" })).drop()
		watcher.receive(t.topic("w"), "", 1)
	}},
	{name: "will/any bytes", v3: "3.1.3.3", v5: "3.1.3.4", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), theWill(t, func(w *will) { w.payload = "\x00\xff\x80" })).drop()
		watcher.receive(t.topic("w"), "\x00\xff\x80", 1)
	}},
	{name: "will/queued for who is away", v3: "3.1.2-5 3.1.2-8", v5: "3.1.2-23 3.1.2-8", run: func(t *T) {
		away(t, 1)
		watcher := t.another().sub(t.topic("a"), 1)
		t.client(as("b"), theWill(t, func(w *will) { w.topic = t.topic("a") })).drop()
		watcher.receive(t.topic("a"), "gone", 1)
		back(t).receive(t.topic("a"), "gone", 1)
	}},
	{name: "will/properties are passed on", v5: "3.1.3.2 3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", run: func(t *T) {
		sent := []prop{num(payloadFormat, 1), str(contentType, "t"), str(responseTopic, t.topic("r")), str(correlationData, "\x00c"),
			user("b", "1"), user("a", "2"), user("b", "1")}
		watcher := watched(t, 1)
		t.client(as("a"), theWill(t, func(w *will) { w.props = append(sent, num(willDelay, 0)) })).drop()
		sameProps(t, watcher.receive(t.topic("w"), "gone", 1).props, sent)
	}},
	{name: "will/message expiry", v5: "3.1.3.2.4 3.3.2-6", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), theWill(t, func(w *will) { w.props = []prop{num(messageExpiry, 100)} })).drop()
		wantExpiry(t, watcher.receive(t.topic("w"), "gone", 1), 80, 100)
	}},
	{name: "will/to the client's own subscription, queued for it", v3: "3.1.2-8 3.1.2-5", v5: "3.1.2-8 3.1.2-23", run: func(t *T) {
		watcher := watched(t, 1)
		c := t.client(as("a"), persist(60), theWill(t))
		c.sub(t.topic("w"), 1)
		c.drop()
		watcher.receive(t.topic("w"), "gone", 1)
		back(t).receive(t.topic("w"), "gone", 1)
	}},
}

var willDelayCases = []entry{
	{name: "will delay/is kept to", v5: "3.1.3.2.2 3.1.2-8", run: func(t *T) { delayed(t, 2, 60, 2*time.Second) }},
	{name: "will delay/ends with the session", v5: "3.1.2-8 3.1.3.2.2", run: func(t *T) { delayed(t, 60, 1, time.Second) }},
	{name: "will delay/does not count when the session ends with the connection", v5: "3.1.2-8 3.1.3.2.2", run: func(t *T) { delayed(t, 60, 0, 0) }},
	{name: "will delay/a client that is back in time", v5: "3.1.3-9 3.1.2-8", run: func(t *T) {
		watcher := watched(t, 1)
		c := t.client(as("a"), persist(60), delay(t, 5))
		c.drop()
		c = t.client(as("a"), persist(60)).present(true)
		t.pause(6200 * time.Millisecond)
		watcher.nothing(c)
	}},
	{name: "will delay/a takeover that resumes the session", v5: "3.1.3-9", run: func(t *T) {
		watcher := watched(t, 1)
		older := t.client(as("a"), persist(60), delay(t, 1))
		newer := t.client(as("a"), persist(60)).present(true)
		older.dies(0x8e)
		t.pause(2200 * time.Millisecond)
		watcher.nothing(newer)
	}},
	{name: "will delay/a clean start ends the session, and so the delay", v5: "3.1.2-8 3.1.4.4", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), persist(60), delay(t, 60)).drop()
		t.client(as("a")).present(false)
		watcher.receive(t.topic("w"), "gone", 1)
	}},
	{name: "will delay/with DISCONNECT 0x04", v5: "3.1.2-8 3.14.2.1", run: func(t *T) {
		watcher := watched(t, 1)
		c := t.client(as("a"), persist(60), delay(t, 5))
		began := time.Now()
		c.write(disconnectPacket(t.v, 4))
		c.dies()
		watcher.nothing(t.another())
		t.pause(time.Until(began.Add(4900 * time.Millisecond)))
		watcher.receive(t.topic("w"), "gone", 1)
	}},
	{name: "will delay/DISCONNECT 0x00 takes a delayed will away", v5: "3.1.2-10 3.14.4-3", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), persist(60), delay(t, 1)).bye()
		t.pause(2 * time.Second)
		watcher.nothing(t.another())
	}},
	{name: "will delay/a new will takes the place of the older", v5: "3.1.3-9 3.1.2-8", run: func(t *T) {
		watcher := watched(t, 1)
		t.client(as("a"), persist(60), delay(t, 5)).drop()
		t.client(as("a"), persist(60), theWill(t, func(w *will) { w.payload = "the newer" })).present(true).drop()
		watcher.receive(t.topic("w"), "the newer", 1)
		t.pause(6 * time.Second)
		watcher.nothing(t.another())
	}},
}

func delay(t *T, seconds uint32) opt {
	return theWill(t, func(w *will) { w.props = []prop{num(willDelay, seconds)} })
}

// delayed drops a client with a will and wants the will after so long.
func delayed(t *T, seconds, expiry uint32, want time.Duration) {
	watcher := watched(t, 1)
	c := t.client(as("a"), fresh(expiry), delay(t, seconds))
	began := time.Now()
	c.drop()
	p, err := watcher.read(want + t.patience)
	if err != nil {
		t.fail("no will after %v: %v", time.Since(began), err)
	}
	watcher.queue = append(watcher.queue, p)
	watcher.receive(t.topic("w"), "gone", 1)
	// Servers count in whole seconds, and look once a second.
	if took := time.Since(began); took < want-50*time.Millisecond || took > want+1200*time.Millisecond+t.slack() {
		t.fail("the will came after %v, wanted %v", took, fmt.Sprint(want))
	}
}
