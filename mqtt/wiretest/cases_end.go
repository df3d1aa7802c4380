package wiretest

var disconnectCases = []entry{
	{name: "disconnect/the server closes and sends nothing more", v3: "3.14.4-2 3.14.4-3", v5: "3.14.4-1 3.14.4-2", run: func(t *T) {
		c := t.client()
		c.sub(t.topic("a"), 1)
		b := append(disconnectPacket(t.v, 0), pingreq...)
		c.write(append(b, message{topic: t.topic("a"), payload: "too late", qos: 1, id: 9}.encode(t.v)...))
		c.dies()
	}},
	{name: "disconnect/what comes before it is handled", v3: "3.14.4-3", v5: "3.14.4-3", run: func(t *T) {
		reader, c := t.another(), t.another()
		reader.sub(t.topic("a"), 0)
		c.write(append(message{topic: t.topic("a"), payload: "last words"}.encode(t.v), disconnectPacket(t.v, 0)...))
		reader.receive(t.topic("a"), "last words", 0)
	}},
	{name: "disconnect/what comes after it is not", v3: "3.14.4-2", v5: "3.14.4-1", bad: true, run: func(t *T) {
		reader, c := t.another(), t.another()
		reader.sub(t.topic("a"), 0)
		c.write(append(disconnectPacket(t.v, 0), message{topic: t.topic("a"), payload: "too late"}.encode(t.v)...))
		c.dies()
		reader.nothing(t.another())
	}},
	{name: "disconnect/every form there is", v5: "3.14.2.1 3.14.2.2", run: func(t *T) {
		forms := [][]byte{frame(disconnectType, 0), frame(disconnectType, 0, 0), frame(disconnectType, 0, 0, 0), frame(disconnectType, 0, 4),
			disconnectPacket(t.v, 0, str(reasonString, "why"), user("a", "b"), user("a", "b")), disconnectPacket(t.v, 0x81, str(reasonString, "why")),
			disconnectPacket(t.v, 0, num(sessionExpiry, 0))}
		each(t, "form", forms, func(b []byte) {
			c := t.client()
			c.write(b)
			if last, err := c.end(t.patience); last != nil || !gone(err) {
				t.fail("%v, %v", last, err)
			}
		})
	}},
	{name: "disconnect/codes that a client may not send", v5: "3.14.2.1", bad: true, run: func(t *T) {
		watcher := watched(t, 1) // closed in any case: it is no normal disconnection, so the will is published
		for _, code := range []byte{0x01, 0x03, 0x18, 0x7f} {
			c := t.client(as("a"), theWill(t))
			c.write(frame(disconnectType, 0, code))
			if _, err := c.end(t.patience); !gone(err) {
				t.fail("%v", err)
			}
			watcher.receive(t.topic("w"), "gone", 1)
		}
	}},
	{name: "disconnect/properties of other packets", v5: "2.2.2.2", bad: true, run: func(t *T) {
		for _, id := range propertyIDs() {
			if p := sample(id); !p.allowed(disconnectType) {
				c := t.client()
				c.write(disconnectPacket(t.v, 0, p))
				c.dies(wrong...)
			}
		}
	}},
	{name: "disconnect/properties that are there twice", v5: "3.14.2.2.2 3.14.2.2.3", bad: true, run: func(t *T) {
		for _, p := range []prop{str(reasonString, "a"), num(sessionExpiry, 5)} {
			c := t.client(fresh(10))
			c.write(disconnectPacket(t.v, 0, p, p))
			c.dies(wrong...)
		}
	}},
}

var authCases = []entry{
	{name: "auth/without an authentication method", v5: "4.12.0-7 4.12.1-2", bad: true, run: func(t *T) {
		packets := [][]byte{frame(authType, 0), frame(authType, 0, appendProps([]byte{0x18}, []prop{str(authMethod, "m")})...),
			frame(authType, 0, appendProps([]byte{0x19}, []prop{str(authMethod, "m"), str(authData, "d")})...)}
		each(t, "packet", packets, func(b []byte) {
			c := t.client()
			c.write(b)
			c.dies(0x82, 0x81, 0x8c)
		})
	}},
	{name: "auth/malformed", v5: "3.15.2-1 3.15.2.2", bad: true, run: func(t *T) {
		packets := [][]byte{frame(authType, 0, 0x01), frame(authType, 0, 0x87), frame(authType, 0, 0x18, 0), frame(authType, 0, 0x18, 3, 0x15, 0),
			frame(authType, 0, appendProps([]byte{0x18}, []prop{str(authData, "d")})...),
			frame(authType, 0, appendProps([]byte{0x18}, []prop{str(authMethod, "m"), str(authMethod, "m")})...)}
		each(t, "packet", packets, func(b []byte) {
			c := t.client()
			c.write(b)
			c.dies(0x82, 0x81, 0x8c)
		})
	}},
	{name: "auth/before CONNACK", v5: "4.12.0-1 3.1.4-6", bad: true, run: func(t *T) {
		c := t.knock(t.hello(with(str(authMethod, "none that there is"))))
		c.try(frame(authType, 0, appendProps([]byte{0x18}, []prop{str(authMethod, "none that there is")})...))
		c.dies(0x8c, 0x87)
	}},
}
