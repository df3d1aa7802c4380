package wiretest

import (
	"fmt"
	"slices"
	"strings"
)

var publishCases = []entry{
	{name: "publish/every QoS to every QoS", v3: "3.3.4-1 3.8.4-6 4.3.1-1 4.3.2-1 4.3.2-2 4.3.3-1 4.3.3-2 2.3.1-4 2.3.1-5 2.3.1-6",
		v5: "3.3.4-1 3.8.4-8 4.3.1-1 4.3.2-1 4.3.2-2 4.3.2-4 4.3.3-1 4.3.3-2 4.3.3-4 4.3.3-8 4.3.3-11 2.2.1-2 2.2.1-4 2.2.1-5", run: func(t *T) {
			publisher, reader := t.another(), t.another()
			for granted := range byte(3) {
				reader.sub(t.topic(fmt.Sprint(granted)), granted)
			}
			for granted := range byte(3) {
				for sent := range byte(3) {
					payload := fmt.Sprintf("sent %d, granted %d", sent, granted)
					publisher.pub(t.topic(fmt.Sprint(granted)), payload, sent)
					reader.receive(t.topic(fmt.Sprint(granted)), payload, min(sent, granted))
				}
			}
			reader.nothing(publisher)
		}},
	{name: "publish/to oneself", v3: "3.3.4-1 4.5.0-1", v5: "3.3.4-1 4.5.0-1", run: func(t *T) {
		c := t.client()
		for qos := range byte(3) {
			c.sub(t.topic("a"), qos)
			c.pub(t.topic("a"), fmt.Sprint(qos), qos)
			c.receive(t.topic("a"), fmt.Sprint(qos), qos)
		}
		c.nothing(c)
	}},
	{name: "publish/QoS 3", v3: "3.3.1-4", v5: "3.3.1-4", bad: true, run: func(t *T) {
		c := t.client()
		c.write(message{topic: t.topic("a"), qos: 3, id: 1}.encode(t.v))
		c.dies(wrong...)
	}},
	{name: "publish/DUP at QoS 0", v3: "3.3.1-2", v5: "3.3.1-2", bad: true, run: func(t *T) {
		c := t.client()
		c.write(message{topic: t.topic("a"), dup: true}.encode(t.v))
		c.dies(wrong...)
	}},
	{name: "publish/DUP is not passed on", v3: "3.3.1-3", v5: "3.3.1-3", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 2)
		for qos := byte(1); qos < 3; qos++ {
			c.publish(message{topic: t.topic("a"), payload: "again", qos: qos, dup: true})
			if p := c.receive(t.topic("a"), "again", qos); p.dup {
				t.fail("%v", p)
			}
		}
	}},
	{name: "publish/topic with wildcards", v3: "3.3.2-2 4.7.1-1", v5: "3.3.2-2 4.7.0-1", bad: true, run: func(t *T) {
		each(t, "topic", []string{"#", "+", t.topic("#"), t.topic("+/b"), t.topic("a+"), t.topic("a#b")}, func(topic string) {
			for qos := range byte(3) {
				c := t.client()
				c.write(message{topic: topic, qos: qos, id: 1}.encode(t.v))
				c.dies(0x81, 0x82, 0x90)
			}
		})
	}},
	{name: "publish/empty topic", v3: "4.7.3-1", v5: "3.3.2.1 4.7.3-1", bad: true, run: func(t *T) {
		for qos := range byte(3) {
			c := t.client()
			c.write(message{qos: qos, id: 1, payload: "to nobody"}.encode(t.v))
			c.dies(0x81, 0x82, 0x90)
		}
	}},
	{name: "publish/topic that is not UTF-8", v3: "1.5.3-1 1.5.3-2 3.3.2-1 4.7.3-2", v5: "1.5.4-1 1.5.4-2 3.3.2-1 4.7.3-2", bad: true, run: func(t *T) {
		each(t, "topic", badStrings, func(topic string) {
			c := t.client()
			c.write(message{topic: topic}.encode(t.v))
			c.dies(0x81, 0x82, 0x90)
		})
	}},
	{name: "publish/U+FEFF is kept", v3: "1.5.3-3", v5: "1.5.4-3", run: func(t *T) {
		c := t.client()
		bom := "\ufeff" + t.topic("a")
		c.sub(bom, 0).sub(t.topic("a"), 0)
		c.pub(bom, "with", 0)
		c.receive(bom, "with", 0)
		c.pub(t.topic("a"), "without", 0)
		c.receive(t.topic("a"), "without", 0)
		c.nothing(c)
	}},
	{name: "publish/topics are not normalized", v3: "4.7.3-4", v5: "4.7.3-4", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("\u00e9"), 0)
		for _, other := range []string{"e\u0301", "\u00c9", "E\u0301", "%C3%A9", " \u00e9", "\u00e9 "} {
			c.pub(t.topic(other), "another topic", 0)
		}
		c.pub(t.topic("\u00e9"), "the topic", 0)
		c.receive(t.topic("\u00e9"), "the topic", 0)
		c.nothing(c)
	}},
	{name: "publish/unusual topics", v3: "4.7.3", v5: "4.7.3", run: func(t *T) {
		c := t.client()
		for _, name := range []string{"with space", "a//b", "/", "//", "\U0001F50C", "\u65e5\u672c", "$inside", "a\\b", "ACCOUNTS", "accounts"} {
			c.sub(t.topic(name), 0)
			c.pub(t.topic(name), name, 0)
			c.receive(t.topic(name), name, 0)
		}
		c.nothing(c)
	}},
	{name: "publish/the longest topic", v3: "4.7.3-3", v5: "4.7.3-3", run: func(t *T) {
		c := t.client()
		topic := t.topic("")
		topic += strings.Repeat("x", 65535-len(topic))
		c.sub(t.topic("+"), 0)
		c.pub(topic, "long", 0)
		c.receive(topic, "long", 0)
	}},
	{name: "publish/no payload", v3: "3.3.3", v5: "3.3.3", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 2)
		for qos := range byte(3) {
			c.pub(t.topic("a"), "", qos)
			c.receive(t.topic("a"), "", qos)
		}
	}},
	{name: "publish/any bytes, 100 KiB of them", v3: "3.3.3", v5: "3.3.3", run: func(t *T) {
		c, reader := t.client(), t.another()
		var b strings.Builder
		for i := range 100 << 10 {
			b.WriteByte(byte(i * 7))
		}
		reader.sub(t.topic("a"), 2)
		for qos := range byte(3) {
			c.pub(t.topic("a"), b.String(), qos)
			reader.receive(t.topic("a"), b.String(), qos)
		}
	}},
	{name: "publish/lengths around the steps of the remaining length", v3: "2.2.3", v5: "2.1.4", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 0)
		for _, n := range []int{100, 110, 115, 120, 125, 126, 127, 128, 129, 130, 16360, 16370, 16375, 16380, 16383, 16384, 16390} {
			payload := strings.Repeat("x", n-len(t.topic("a"))-2)
			c.pub(t.topic("a"), payload, 0)
			c.receive(t.topic("a"), payload, 0)
		}
	}},
	{name: "publish/identifiers 1 and 65535", v3: "2.3.1-2", v5: "2.2.1-3", run: func(t *T) {
		c := t.client()
		for _, id := range []uint16{1, 65535, 256, 255} {
			for qos := byte(1); qos < 3; qos++ {
				c.publish(message{topic: t.topic("a"), qos: qos, id: id})
			}
		}
	}},
	{name: "publish/to a topic of the server's", v3: "4.7.2 3.3.5-2", v5: "4.7.2 3.3.4", run: func(t *T) {
		for qos := range byte(3) {
			c := t.another()
			c.write(message{topic: "$SYS/" + t.unique, payload: "x", qos: qos, id: 1}.encode(t.v))
			c.write(pingreq)
			answered := []byte{pubackType, pubrecType, pingrespType}
			if p, err := c.read(t.patience); err == nil && !slices.Contains(answered, p.typ) && p.typ != disconnectType || err != nil && !gone(err) {
				t.fail("%v, %v: wanted an acknowledgement or the end", p, err)
			}
		}
		t.client().ping()
	}},
}

var publishPropertyCases = []entry{
	{name: "publish/properties are passed on", v5: "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", run: func(t *T) {
		sent := []prop{num(payloadFormat, 1), str(contentType, "text/plain; \u00e9"), str(responseTopic, t.topic("answers/here")),
			str(correlationData, "\x00\xff\x80"), user("b", "1"), user("a", "2"), user("b", "1"), user("", ""), user("a", "0")}
		publisher, reader := t.another(), t.another()
		reader.sub(t.topic("a"), 2)
		for qos := range byte(3) {
			publisher.pub(t.topic("a"), "text", qos, sent...)
			sameProps(t, reader.receive(t.topic("a"), "text", qos).props, sent)
		}
	}},
	{name: "publish/properties are kept with retained messages", v5: "3.3.2-4 3.3.2-15 3.3.2-16 3.3.2-17 3.3.2-18 3.3.2-20", run: func(t *T) {
		sent := []prop{num(payloadFormat, 0), str(contentType, "t"), str(responseTopic, t.topic("r")), str(correlationData, "c"), user("z", "1"), user("a", "2")}
		publisher, reader := t.another(), t.another()
		publisher.retain(t.topic("a"), "kept", 1, sent...)
		reader.sub(t.topic("a"), 1)
		sameProps(t, reader.receive(t.topic("a"), "kept", 1).props, sent)
	}},
	{name: "publish/no properties are invented", v5: "3.3.2-4 3.3.2-17", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 1)
		c.pub(t.topic("a"), "bare", 1)
		sameProps(t, c.receive(t.topic("a"), "bare", 1).props, nil)
	}},
	{name: "publish/properties do not come back in acknowledgements", v5: "3.4.2.2 3.5.2.2", run: func(t *T) {
		c := t.client()
		for qos, typ := range map[byte]byte{1: pubackType, 2: pubrecType} {
			c.write(message{topic: t.topic("a"), qos: qos, id: 9, props: []prop{user("a", "b"), str(contentType, "t")}}.encode(t.v))
			if p := c.acked(typ, 9); len(all(p.props, userProperty)) > 0 {
				t.fail("%v %v", p, p.props)
			}
		}
	}},
	{name: "publish/properties of other packets", v5: "2.2.2.2 3.3.2.3 3.3.4-6", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); !p.allowed(publishType) || id == subscriptionIdentifier {
				badPublish(t, p)
			}
		}
	}},
	{name: "publish/properties that are there twice", v5: "3.3.2.3", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); p.allowed(publishType) && id != userProperty && id != subscriptionIdentifier {
				badPublish(t, p, p)
			}
		}
	}},
	{name: "publish/payload format that there is not", v5: "3.3.2.3.2", bad: true, run: func(t *T) {
		badPublish(t, num(payloadFormat, 2))
		badPublish(t, num(payloadFormat, 255))
	}},
	{name: "publish/response topic with wildcards", v5: "3.3.2-14", bad: true, run: func(t *T) {
		badPublish(t, str(responseTopic, "a/+"))
		badPublish(t, str(responseTopic, "#"))
	}},
	{name: "publish/properties that are not UTF-8", v5: "1.5.4-1 1.5.4-2 1.5.7-1 3.3.2-13 3.3.2-19", bad: true, run: func(t *T) {
		each(t, "string", badStrings, func(s string) {
			for _, p := range []prop{str(contentType, s), str(responseTopic, s), user(s, "a"), user("a", s)} {
				badPublish(t, p)
			}
		})
	}},
	{name: "publish/a payload that is not the UTF-8 it is said to be", v5: "3.3.2.3.2", run: func(t *T) {
		c := t.client() // it may be refused with 0x99, or passed on
		if code := c.publish(message{topic: t.topic("a"), payload: "\xff", qos: 1, props: []prop{num(payloadFormat, 1)}}); code != 0 && code != 0x10 && code != 0x99 {
			t.fail("PUBACK %#x", code)
		}
		c.ping()
	}},
	{name: "publish/property length that is wrong", v5: "2.2.2.1", bad: true, run: func(t *T) {
		for _, b := range []string{"\x06", "\x7f", "\x01\x01", "\x03\x01\x01", "\x80\x80\x80\x80\x01", "\x80\x00", "\x02\x7f\x01", "\x03\x26\x00\x05"} {
			c := t.client()
			c.write(frame(publishType, 0, append(appendString(nil, t.topic("a")), b...)...))
			c.dies(wrong...)
		}
	}},
}

func badPublish(t *T, props ...prop) {
	each(t, "properties", [][]prop{props}, func(props []prop) {
		c := t.client()
		c.write(message{topic: t.topic("a"), payload: "x", qos: 1, id: 1, props: props}.encode(t.v))
		c.dies(0x81, 0x82, 0x90, 0x94, 0x99)
	})
}

// sameProps wants the properties of a message, whatever their order but for that of user properties.
func sameProps(t *T, got, want []prop) {
	for _, id := range propertyIDs() {
		if id != topicAlias && !slices.Equal(all(got, id), all(want, id)) {
			t.fail("got %v, wanted %v", got, want)
		}
	}
}
