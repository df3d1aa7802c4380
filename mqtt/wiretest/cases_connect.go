package wiretest

import (
	"slices"
	"strings"
	"time"
)

const alphabet = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// refusedConnect sends CONNECT with other connect flags than what is in it says.
func refusedConnect(t *T, flags byte, opts ...opt) {
	h := t.hello(opts...)
	t.raw(frame(connectType, 0, h.body(flags)...)).dies(wrong...)
}

var connectCases = []entry{
	{name: "connect/accepted", v3: "3.1.4-4 3.2.0-1 3.2.2-1", v5: "3.1.4-5 3.2.0-1 3.2.2-2 3.2.2-1", run: func(t *T) {
		t.client().present(false).ping()
	}},
	{name: "connect/wrong protocol name", v3: "3.1.2-1", v5: "3.1.2-1", bad: true, run: func(t *T) {
		each(t, "name", []string{"mqtt", "MQTTX", "MQT", "hj", "", "AMQP", "MQTT\x00"}, func(name string) {
			h := t.hello()
			h.name = name
			t.raw(h.encode()).dies(0x81, 0x82, 0x84)
		})
	}},
	{name: "connect/protocol level that is not served", v3: "3.1.2-2 3.2.2-4 3.2.2-5", bad: true, run: func(t *T) {
		each(t, "level", []byte{0, 1, 2, 6, 7, 100}, func(level byte) {
			h := t.hello()
			h.level = level
			t.knock(h).refused(1)
		})
	}},
	{name: "connect/protocol version that is not served", v5: "3.1.2-2", bad: true, run: func(t *T) {
		each(t, "version", []byte{6, 7, 100}, func(level byte) {
			h := t.hello()
			h.level = level
			c := t.knock(h)
			_ = c.nc.SetReadDeadline(time.Now().Add(t.patience))
			if first, err := c.in.Peek(1); err == nil && first[0]>>4 == connackType {
				if length, err := c.in.Peek(2); err == nil && length[1] == 2 {
					c.v = V3 // a server that does not know the version may answer as 3.1.1 does
				}
			}
			c.dies(1, 0x84)
		})
	}},
	{name: "connect/level 3 of MQIsdp", v3: "3.1.2-2", run: func(t *T) {
		h := t.hello()
		h.name, h.level = "MQIsdp", 3
		c := t.knock(h)
		if p, err := c.read(t.patience); err == nil && p.code > 1 || err != nil && !gone(err) {
			t.fail("%v, %v: wanted to be served, or refused with 1", p, err)
		}
	}},
	{name: "connect/reserved connect flag", v3: "3.1.2-3 3.1.4-1", v5: "3.1.2-3 3.1.4-1", bad: true, run: func(t *T) {
		refusedConnect(t, t.hello().flags()|1)
	}},
	{name: "connect/will QoS without will flag", v3: "3.1.2-11 3.1.2-13", v5: "3.1.2-11", bad: true, run: func(t *T) {
		for _, flags := range []byte{0x08, 0x10, 0x18} {
			refusedConnect(t, t.hello().flags()|flags)
		}
	}},
	{name: "connect/will retain without will flag", v3: "3.1.2-11 3.1.2-15", v5: "3.1.2-13", bad: true, run: func(t *T) {
		refusedConnect(t, t.hello().flags()|0x20)
	}},
	{name: "connect/will QoS 3", v3: "3.1.2-14", v5: "3.1.2-12", bad: true, run: func(t *T) {
		w := lastWill(will{topic: t.topic("w"), payload: "w"})
		refusedConnect(t, t.hello(w).flags()|0x18, w)
	}},
	{name: "connect/will flag without a will", v3: "3.1.2-9 3.1.3-1", v5: "3.1.2-9 3.1.3-1", bad: true, run: func(t *T) {
		refusedConnect(t, t.hello().flags()|0x04)
	}},
	{name: "connect/will without will flag", v3: "3.1.2-11 3.1.4-1", v5: "3.1.2-9 3.1.4-1", bad: true, run: func(t *T) {
		refusedConnect(t, t.hello().flags(), lastWill(will{topic: t.topic("w"), payload: "w"}))
	}},
	{name: "connect/user name flag without user name", v3: "3.1.2-19", v5: "3.1.2-17", bad: true, run: func(t *T) {
		refusedConnect(t, 0x82, anonymous)
	}},
	{name: "connect/user name without its flag", v3: "3.1.2-18", v5: "3.1.2-16", bad: true, run: func(t *T) {
		refusedConnect(t, 0x02, signIn("someone", ""))
	}},
	{name: "connect/password flag without password", v3: "3.1.2-21", v5: "3.1.2-19", bad: true, run: func(t *T) {
		name := "someone"
		refusedConnect(t, 0xc2, func(h *hello) { h.user, h.pass = &name, nil })
	}},
	{name: "connect/password without its flag", v3: "3.1.2-20", v5: "3.1.2-18", bad: true, run: func(t *T) {
		refusedConnect(t, 0x82, signIn("someone", "secret"))
	}},
	{name: "connect/password without user name", v3: "3.1.2-22", bad: true, run: func(t *T) {
		secret := "secret"
		refusedConnect(t, 0x42, func(h *hello) { h.user, h.pass = nil, &secret })
	}},
	{name: "connect/password without user name is well-formed", v5: "3.1.2.9", run: func(t *T) {
		secret := "secret"
		c := t.answer(t.hello(func(h *hello) { h.user, h.pass = nil, &secret }))
		if code := c.ack.code; code != 0 && code != 0x86 && code != 0x87 {
			t.fail("%v", c.ack)
		}
	}},
	{name: "connect/wrong password is told", v3: "3.2.2-4 3.2.2-5", v5: "3.1.4-2 3.2.2-6 3.2.2-7", run: func(t *T) {
		c := t.answer(t.hello(signIn("nobody-"+t.unique, "not the secret")))
		if c.ack.code == 0 {
			t.skip("the broker lets everybody in")
		}
		if !slices.Contains([]byte{2, 4, 5, 0x85, 0x86, 0x87}, c.ack.code) { // 2 and 0x85: the user may not have this client id
			t.fail("%v", c.ack)
		}
		c.dies()
	}},
	{name: "connect/client id of 1 to 23 bytes", v3: "3.1.3-5 3.1.3-2 3.1.3-3", v5: "3.1.3-5 3.1.3-2 3.1.3-3", run: func(t *T) {
		ids := []string{(t.unique + alphabet)[:23], t.unique + "Z", t.unique + alphabet[:12], t.unique + alphabet[12:24],
			t.unique + alphabet[24:36], t.unique + alphabet[36:48], t.unique + alphabet[48:]}
		each(t, "id", ids, func(id string) {
			h := t.hello()
			h.id = id
			t.connect(h).bye()
		})
	}},
	{name: "connect/client id of one byte", v3: "3.1.3-5", v5: "3.1.3-5", run: func(t *T) {
		h := t.hello() // each version has one of its own: the cases of both run side by side
		h.id = map[Version]string{V3: "3", V5: "5"}[t.v]
		t.connect(h).bye()
	}},
	{name: "connect/unusual client ids", v3: "3.1.3-4 3.1.3-9", v5: "3.1.3-4 3.1.3-8", run: func(t *T) {
		ids := []string{" a b ", "a/b+c#", "$SYS", "Zähler-\U0001F50C", strings.Repeat("x", 1000), strings.Repeat("x", 65000)}
		each(t, "id", ids, func(id string) {
			h := t.hello()
			h.id = t.unique + id
			if c := t.answer(h); c.ack.code == 0 {
				c.bye()
			} else if c.ack.code != 2 && c.ack.code != 0x85 {
				t.fail("%v", c.ack)
			}
		})
	}},
	{name: "connect/empty client id", v3: "3.1.3-6 3.1.3-7", run: func(t *T) {
		none := func(h *hello) { h.id = "" }
		a, b := t.client(none), t.client(none)
		a.sub(t.topic("a"), 0)
		b.pub(t.topic("a"), "two clients", 0)
		a.receive(t.topic("a"), "two clients", 0)
		b.nothing(a)
	}},
	{name: "connect/empty client id without clean session", v3: "3.1.3-7 3.1.3-8 3.1.3-9 3.2.2-4", bad: true, run: func(t *T) {
		t.knock(t.hello(persist(0), func(h *hello) { h.id = "" })).refused(2)
	}},
	{name: "connect/strings that are not UTF-8", v3: "1.5.3-1 1.5.3-2 3.1.3-4 3.1.3-10 3.1.3-11", bad: true,
		v5: "1.5.4-1 1.5.4-2 3.1.3-4 3.1.3-11 3.1.3-12", run: badConnectStrings},
	{name: "connect/will topic that is no topic name", v3: "4.7.1-1 4.7.3-1", v5: "4.7.0-1 4.7.3-1", bad: true, run: func(t *T) {
		each(t, "topic", []string{"", "+", "#", t.topic("#"), t.topic("+/a")}, func(topic string) {
			t.knock(t.hello(lastWill(will{topic: topic, payload: "w"}))).dies(0x81, 0x82, 0x87, 0x90, 5)
		})
	}},
	{name: "connect/truncated at every byte", v3: "3.1.4-1", v5: "3.1.4-1", bad: true, run: func(t *T) {
		h := t.hello(lastWill(will{topic: "w", payload: "w"}), signIn("u", "p"))
		h.props = []prop{num(sessionExpiry, 1), user("a", "b")}
		body := h.body(h.flags())
		for n := range body {
			t.raw(frame(connectType, 0, body[:n]...)).dies(0x81, 0x82, 0x84)
		}
	}},
	{name: "connect/bytes after the payload", v3: "3.1.4-1", v5: "3.1.4-1", bad: true, run: func(t *T) {
		h := t.hello()
		each(t, "bytes", []string{"\x00", "\x00\x01a", "more"}, func(more string) {
			t.raw(frame(connectType, 0, append(h.body(h.flags()), more...)...)).dies(wrong...)
		})
	}},
	{name: "connect/what follows a refused CONNECT is not looked at", v3: "3.1.4-5", bad: true, run: func(t *T) {
		afterRefusal(t, t.hello(persist(0), func(h *hello) { h.id = "" }))
	}},
	{name: "connect/what follows a refused CONNECT is not looked at", v5: "3.1.4-6 4.12.0-1", bad: true, run: func(t *T) {
		afterRefusal(t, t.hello(with(str(authMethod, "none that there is"))))
	}},
}

// anonymous takes the credentials out of CONNECT.
func anonymous(h *hello) { h.user, h.pass = nil, nil }

// signIn puts other credentials into CONNECT; no password when it is "".
func signIn(name, secret string) opt {
	return func(h *hello) {
		h.user, h.pass = &name, &secret
		if secret == "" {
			h.pass = nil
		}
	}
}

func badConnectStrings(t *T) {
	each(t, "string", badStrings, func(s string) {
		t.knock(t.hello(func(h *hello) { h.id = s })).dies(0x81, 0x82, 0x85)
		t.knock(t.hello(lastWill(will{topic: s, payload: "w"}))).dies(0x81, 0x82, 0x90)
		t.knock(t.hello(signIn(s, "p"))).dies(0x81, 0x82, 0x86)
	})
}

// afterRefusal sends a retained message behind a CONNECT that is refused.
func afterRefusal(t *T, h hello) {
	c := t.dial()
	c.said = h
	c.write(append(h.encode(), message{topic: t.topic("r"), payload: "no", retain: true}.encode(t.v)...))
	if last, err := c.end(t.patience); last != nil && last.code == 0 || !gone(err) {
		t.fail("%v, %v", last, err)
	}
	reader := t.another()
	reader.sub(t.topic("r"), 0)
	reader.nothing(reader)
}
