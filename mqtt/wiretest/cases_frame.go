package wiretest

import (
	"slices"
	"time"
)

// badStrings are no UTF-8 Encoded Strings: U+0000, surrogates, overlong forms, bytes that are never in UTF-8, and a
// character that is cut.
var badStrings = []string{
	"a\x00b", "a\xed\xa0\x80b", "a\xed\xbf\xbfb", "a\xc0\x80b", "a\xe0\x80\xafb", "a\xf4\x90\x80\x80b", "a\xf5\x80\x80\x80b", "a\xffb", "a\x80b", "a\xe2\x82",
}

// nibbles are all flags but the right one.
func nibbles(right byte) (list []byte) {
	for f := range byte(16) {
		if f != right {
			list = append(list, f)
		}
	}
	return list
}

// wrongFlags is a case that sends a packet with every wrong value in the flags of the fixed header.
func wrongFlags(name, v3, v5 string, right byte, packet func(v Version) []byte) entry {
	return entry{name: "frame/wrong flags in " + name, v3: v3, v5: v5, bad: true, run: func(t *T) {
		each(t, "flags", nibbles(right), func(f byte) {
			b := packet(t.v)
			b[0] = b[0]&0xf0 | f
			c := t.client()
			c.write(b)
			c.dies(wrong...)
		})
	}}
}

var frameCases = []entry{
	{name: "frame/first packet is not CONNECT", v3: "3.1.0-1", v5: "3.1.0-1 3.14.0-1", bad: true, run: func(t *T) {
		first := [][]byte{
			message{topic: t.topic("a")}.encode(t.v), message{topic: t.topic("a"), qos: 1, id: 1}.encode(t.v), ackOf(pubackType, 1),
			ackOf(pubrecType, 1), ackOf(pubrelType, 1), ackOf(pubcompType, 1), subscribePacket(t.v, 1, []filter{{t.topic("a"), 0}}),
			unsubscribePacket(t.v, 1, []string{"a"}), pingreq, frame(disconnectType, 0), frame(authType, 0), []byte("GET / HTTP/1.1\r\n\r\n"),
		}
		each(t, "packet", first, func(b []byte) { t.raw(b).silent() })
	}},
	{name: "frame/second CONNECT", v3: "3.1.0-2", v5: "3.1.0-2 4.13.1-1 4.13.2-1 3.2.0-2", bad: true, run: func(t *T) {
		c := t.client()
		c.write(c.said.encode())
		c.dies(0x82)
	}},
	{name: "frame/second CONNECT in the same write", v3: "3.1.0-2", v5: "3.1.0-2", bad: true, run: func(t *T) {
		h := t.hello()
		c := t.dial()
		c.said = h
		c.write(append(h.encode(), h.encode()...))
		if ack := c.next(connackType); ack.code == 0 {
			c.dies(0x82)
		}
	}},
	{name: "frame/reserved packet type 0", v3: "2.2.1 4.8.0-1", v5: "2.1.2 4.13.1-1", bad: true, run: func(t *T) {
		c := t.client()
		c.write([]byte{0, 0})
		c.dies(wrong...)
	}},
	{name: "frame/reserved packet type 15", v3: "2.2.1 4.8.0-1", bad: true, run: func(t *T) {
		c := t.client()
		c.write([]byte{0xf0, 0})
		c.dies()
	}},
	{name: "frame/packets that only servers send", v3: "2.2.1 4.8.0-1", v5: "2.1.2 4.13.1-1", bad: true, run: func(t *T) {
		packets := map[Version][][]byte{
			V3: {{0x20, 2, 0, 0}, {0x90, 3, 0, 1, 0}, {0xb0, 2, 0, 1}, {0xd0, 0}},
			V5: {{0x20, 3, 0, 0, 0}, {0x90, 4, 0, 1, 0, 0}, {0xb0, 4, 0, 1, 0, 0}, {0xd0, 0}},
		}
		each(t, "packet", packets[t.v], func(b []byte) {
			c := t.client()
			c.write(b)
			c.dies(wrong...)
		})
	}},
	{name: "frame/wrong flags in CONNECT", v3: "2.2.2-1 2.2.2-2 3.1.4-1", v5: "2.1.3-1 3.1.4-1", bad: true, run: func(t *T) {
		each(t, "flags", nibbles(0), func(f byte) {
			b := t.hello().encode()
			b[0] |= f
			t.raw(b).dies(wrong...)
		})
	}},
	wrongFlags("PUBACK", "2.2.2-2", "2.1.3-1", 0, func(Version) []byte { return ackOf(pubackType, 1) }),
	wrongFlags("PUBREC", "2.2.2-2", "2.1.3-1", 0, func(Version) []byte { return ackOf(pubrecType, 1) }),
	wrongFlags("PUBREL", "2.2.2-2 3.6.1-1", "2.1.3-1 3.6.1-1", 2, func(Version) []byte { return ackOf(pubrelType, 1) }),
	wrongFlags("PUBCOMP", "2.2.2-2", "2.1.3-1", 0, func(Version) []byte { return ackOf(pubcompType, 1) }),
	wrongFlags("SUBSCRIBE", "2.2.2-2 3.8.1-1", "2.1.3-1 3.8.1-1", 2, func(v Version) []byte {
		return subscribePacket(v, 1, []filter{{"a", 0}})
	}),
	wrongFlags("UNSUBSCRIBE", "2.2.2-2 3.10.1-1", "2.1.3-1 3.10.1-1", 2, func(v Version) []byte {
		return unsubscribePacket(v, 1, []string{"a"})
	}),
	wrongFlags("PINGREQ", "2.2.2-2", "2.1.3-1", 0, func(Version) []byte { return slices.Clone(pingreq) }),
	wrongFlags("DISCONNECT", "2.2.2-2 3.14.1-1", "2.1.3-1 3.14.1-1", 0, func(v Version) []byte { return disconnectPacket(v, 0) }),
	wrongFlags("AUTH", "", "2.1.3-1 3.15.1-1", 0, func(Version) []byte { return frame(authType, 0) }),
	{name: "frame/remaining length of five bytes", v3: "2.2.3 4.8.0-1", v5: "1.5.5 4.13.1-1", bad: true, run: func(t *T) {
		for _, last := range []byte{0x00, 0x01, 0x7f, 0xff} {
			c := t.client()
			c.write([]byte{0x30, 0xff, 0xff, 0xff, 0xff, last})
			c.dies(0x81, 0x82, 0x95)
		}
	}},
	{name: "frame/CONNECT with a remaining length of five bytes", v3: "2.2.3", v5: "1.5.5", bad: true, run: func(t *T) {
		b := t.hello().encode()
		t.raw(append([]byte{b[0], b[1] | 0x80, 0x80, 0x80, 0x80, 0x00}, b[2:]...)).dies(0x81, 0x82, 0x95)
	}},
	{name: "frame/remaining length in more bytes than needed", v5: "1.5.5-1", bad: true, run: func(t *T) {
		c := t.client()
		c.write([]byte{0xc0, 0x80, 0x00})
		c.dies(wrong...)
	}},
	{name: "frame/remaining length 0 where a body is needed", v3: "4.8.0-1", v5: "4.13.1-1", bad: true, run: func(t *T) {
		each(t, "first byte", []byte{0x30, 0x32, 0x40, 0x50, 0x62, 0x70, 0x82, 0xa2}, func(b byte) {
			c := t.client()
			c.write([]byte{b, 0})
			c.dies(wrong...)
		})
		t.raw([]byte{0x10, 0}).dies(wrong...)
	}},
	{name: "frame/PINGREQ with a body", v3: "3.12.1", v5: "3.12.1", bad: true, run: func(t *T) {
		c := t.client()
		c.write(frame(pingreqType, 0, 0))
		c.dies(wrong...)
	}},
	{name: "frame/acknowledgements that are too long", v3: "3.4.1 3.5.1 3.6.1 3.7.1", bad: true, run: func(t *T) {
		each(t, "type", []byte{pubackType, pubrecType, pubrelType, pubcompType}, func(typ byte) {
			b := append(ackOf(typ, 1), 0)
			b[1] = 3
			c := t.client()
			c.write(b)
			c.dies()
		})
	}},
	{name: "frame/acknowledgements that are too short", v3: "3.4.1 3.5.1 3.6.1 3.7.1", v5: "3.4.2 3.5.2 3.6.2 3.7.2", bad: true, run: func(t *T) {
		each(t, "type", []byte{pubackType, pubrecType, pubrelType, pubcompType}, func(typ byte) {
			c := t.client()
			c.write([]byte{ackOf(typ, 1)[0], 1, 1})
			c.dies(wrong...)
		})
	}},
	{name: "frame/packet identifier 0", v3: "2.3.1-1", v5: "2.2.1-3", bad: true, run: func(t *T) {
		packets := [][]byte{
			message{topic: t.topic("a"), qos: 1}.encode(t.v), message{topic: t.topic("a"), qos: 2}.encode(t.v),
			subscribePacket(t.v, 0, []filter{{t.topic("a"), 0}}), unsubscribePacket(t.v, 0, []string{t.topic("a")}),
		}
		each(t, "packet", packets, func(b []byte) {
			c := t.client()
			c.write(b)
			c.dies(wrong...)
		})
	}},
	{name: "frame/byte by byte", v3: "4.2.0-1", v5: "4.2-1", run: func(t *T) {
		c := t.dial()
		c.said = t.hello()
		for _, b := range c.said.encode() {
			c.write([]byte{b})
		}
		c.next(connackType)
		c.sub(t.topic("a"), 1)
		for _, b := range (message{topic: t.topic("a"), payload: "slow", qos: 1, id: 9}).encode(t.v) {
			c.write([]byte{b})
		}
		c.acked(pubackType, 9)
		c.receive(t.topic("a"), "slow", 1)
	}},
	{name: "frame/all in one write, CONNECT included", v3: "3.1.4 4.2.0-1", v5: "3.1.4 4.2-1", run: func(t *T) {
		c := t.dial()
		c.said = t.hello()
		b := append(c.said.encode(), subscribePacket(t.v, 1, []filter{{t.topic("a"), 1}})...)
		b = append(b, message{topic: t.topic("a"), payload: "early", qos: 1, id: 2}.encode(t.v)...)
		c.write(append(b, pingreq...))
		c.next(connackType)
		c.acked(subackType, 1)
		c.acked(pubackType, 2)
		c.receive(t.topic("a"), "early", 1)
		c.wait("PINGRESP", func(p packet) bool { return p.typ == pingrespType })
	}},
	{name: "frame/a packet that never ends", v3: "3.1.2-24", v5: "3.1.2-22", run: func(t *T) {
		c := t.client(keepAlive(1))
		last := c.wrote
		c.write(message{topic: t.topic("a"), payload: "never to be taken", qos: 1, id: 1}.encode(t.v)[:10])
		c.wrote = last // what only begins does not count
		c.expires(time.Second)
	}},
	{name: "frame/PINGREQ is answered", v3: "3.12.4-1", v5: "3.12.4-1", run: func(t *T) {
		c := t.client()
		for range 3 {
			c.write(pingreq)
		}
		for range 3 {
			c.next(pingrespType)
		}
	}},
	{name: "frame/truncated SUBSCRIBE", v3: "4.8.0-1", v5: "4.13.1-1", bad: true, run: func(t *T) {
		truncated(t, subscribePacket(t.v, 1, []filter{{"a/b", 1}}))
	}},
	{name: "frame/truncated UNSUBSCRIBE", v3: "4.8.0-1", v5: "4.13.1-1", bad: true, run: func(t *T) {
		truncated(t, unsubscribePacket(t.v, 1, []string{"a/b"}))
	}},
	{name: "frame/truncated PUBLISH", v3: "4.8.0-1", v5: "4.13.1-1", bad: true, run: func(t *T) {
		truncated(t, message{topic: "a/b", qos: 1, id: 1, props: []prop{str(contentType, "abc"), user("a", "b")}}.encode(t.v))
	}},
	{name: "frame/truncated properties of acknowledgements", v5: "4.13.1-1", bad: true, run: func(t *T) {
		for _, typ := range []byte{pubackType, pubrecType, pubrelType, pubcompType} {
			b := ackCode(typ, 1, 0, str(reasonString, "why"))
			for n := 4; n < len(b)-2; n++ {
				c := t.client()
				c.write(frame(typ, b[0]&15, b[2:2+n]...))
				c.dies(wrong...)
			}
		}
	}},
	{name: "frame/bytes after the properties", v5: "4.13.1-1", bad: true, run: func(t *T) {
		packets := [][]byte{frame(pubackType, 0, 0, 1, 0, 0, 0), frame(pubrecType, 0, 0, 1, 0, 0, 0xff), frame(pubrelType, 2, 0, 1, 0, 0, 0),
			frame(pubcompType, 0, 0, 1, 0, 0, 0), frame(disconnectType, 0, 0, 0, 0), frame(authType, 0, 0, 0, 0)}
		each(t, "packet", packets, func(b []byte) {
			c := t.client()
			c.write(b)
			c.dies(wrong...)
		})
	}},
	{name: "frame/bytes after the last filter", v3: "4.8.0-1", v5: "4.13.1-1", bad: true, run: func(t *T) {
		for _, more := range []string{"\x00", "\x00\x05a"} {
			for _, b := range [][]byte{subscribePacket(t.v, 1, []filter{{"a", 1}}), unsubscribePacket(t.v, 1, []string{"a"})} {
				c := t.client()
				c.write(frame(b[0]>>4, 2, append(b[2:], more...)...))
				c.dies(wrong...)
			}
		}
	}},
	{name: "frame/a client that goes away in the middle of anything", v3: "4.8.0-2", v5: "4.13.1", bad: true, run: func(t *T) {
		b := append(t.hello().encode(), message{topic: t.topic("a"), payload: "x", qos: 2, id: 1}.encode(t.v)...)
		for n := range b {
			t.raw(b[:n]).drop()
		}
		t.another().ping() // one with the same id might be taken over: of links that are gone CONNECT may be seen late
	}},
}

// truncated sends the packet cut at every byte of its body, with a length that says so.
func truncated(t *T, whole []byte) {
	for n := range len(whole) - 2 {
		c := t.client()
		c.write(frame(whole[0]>>4, whole[0]&15, whole[2:2+n]...))
		c.dies(wrong...)
	}
}
