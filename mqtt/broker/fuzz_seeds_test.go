package broker

// connectionSeeds are scripts in which each kind of client does something, well and badly.
func connectionSeeds() [][]byte {
	const (
		d1, d2, ipc1, x1, wrong, reader, root, reader2, anonymous, backend = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
		c1, c2                                                             = 0x10, 0x20
		s                                                                  = stepSync
	)
	// connect with keep-alive 60: user, how, keep-alive, and for MQTT 5 no properties.
	v4 := func(client, user, how byte) []byte { return []byte{client + actConnect, user, how &^ 1, 60} }
	v5 := func(client, user, how byte, props ...byte) []byte {
		return append([]byte{client + actConnect, user, how | 1, 60, byte(len(props))}, props...)
	}
	pub4 := func(client, flags, topic, id byte, payload string) []byte {
		b := []byte{client | actPublish, flags, topic}
		if flags&6 != 0 {
			b = append(b, id)
		}
		return append(append(b, byte(len(payload))), payload...)
	}
	pub5 := func(client, flags, topic, id byte, payload string, props ...byte) []byte {
		b := []byte{client | actPublish, flags, topic}
		if flags&6 != 0 {
			b = append(b, id)
		}
		b = append(append(b, byte(len(props))), props...)
		return append(append(b, byte(len(payload))), payload...)
	}
	sub4 := func(client, topic, options byte) []byte {
		return []byte{client | actSubscribe | s, 1, 1, topic, options}
	}
	sub5 := func(client, topic, options byte, props ...byte) []byte {
		b := append([]byte{client | actSubscribe | s, 1, byte(len(props))}, props...)
		return append(b, 1, topic, options)
	}
	ack := func(client, kind, id byte) []byte { return []byte{client | actAck | s, kind, id} }
	all := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	ping, bye, bye5 := []byte{actPing | s}, []byte{actDisconnect}, []byte{actDisconnect, 4, 0}
	late := v4(0, d1, 2) // a reset right behind what was sent
	for range 20 {
		late = append(late, pub4(0, 0, 0, 0, "late")...)
	}
	return [][]byte{
		append(late, actSubscribe, 1, 1, 5, 1, actReset), {}, {},
		all(v4(0, d1, 2), pub4(0, 2, 0, 1, `{"v":1}`), pub4(0, 2, 0, 2, "b"), pub4(0, 0, 1, 0, "c"), ping, bye),
		all(v5(0, d1, 2), pub5(0, 2, 0, 1, "a"), pub5(0, 2, 0, 1, "b"), pub5(0, 2, 1, 3, "c", 0x01, 1), bye5),
		all(v4(0, d1, 2), pub4(s, 2, 2, 1, "foreign"), ping),
		all(v5(0, d1, 2), pub5(s, 2, 2, 1, "foreign"), pub5(s, 3, 0, 2, "retained")),
		all(v4(0, d1, 2), pub4(s, 4, 0, 1, "QoS 2")), all(v5(0, d2, 2), pub5(s, 6, 2, 1, "QoS 3")),
		all(v5(0, d1, 2), pub5(s, 2, 27, 1, "alias", 0x23, 0, 1), pub5(s, 2, 0, 0, "id 0")),
		all(v4(0, d1, 2), pub4(s, 2, 0, 1, "\xff\xff"), ping),
		all(v4(0, d1, 2), sub4(0, 5, 1), v4(c1, backend, 2), pub4(c1|s, 2, 5, 9, `{"message_id":"m","expires_at":"2999-01-01T00:00:00Z"}`), ack(0, 0, 1), bye),
		all(v5(0, ipc1, 2, 0x21, 0, 1), sub5(0, 5, 1), []byte{actUnsubscribe | s, 2, 0, 1, 5}, sub5(0, 18, 1), sub5(0, 22, 0)),
		all(v5(0, d1, 0, 0x11, 0, 0, 0, 60), sub5(0, 5, 1), v5(c1, root, 2), pub5(c1|s, 2, 5, 9, `{"message_id":"m","kind":"k"}`), []byte{actReset},
			v5(0, d1, 0, 0x11, 0, 0, 0, 60), ack(0, 4, 1)),
		all(v4(0, d1, 2), v4(c1, d1, 2), v5(c2, d1, 2), pub4(0, 2, 0, 1, "old"), pub4(c2, 2, 0, 1, "new")),
		all(v4(0, d1, 6), []byte{2, 'a', 'b'}, pub4(s, 2, 0, 1, "x")),
		all(v4(0, d1, 4), pub4(0, 2, 0, 1, "x")),
		v4(0, wrong, 2), v5(0, wrong, 2), v5(0, 10, 2), v4(0, 11, 2), v5(0, 12, 2), v4(0, 13, 2), v5(0, 14, 2), v4(0, 15, 2), v4(0, 16, 2), v4(0, 17, 2),
		{actConnect, d1, 2 | 8, 0, 60, 8}, {actConnect, anonymous, 2 | 8, 0x28, 60, 9}, {actConnect, anonymous, 2 | 8 | 1, 0x18, 60, 0, 0, 0},
		all(v4(0, reader, 2), sub4(0, 16, 1), v4(c1, d1, 2), pub4(c1|s, 2, 0, 1, "seen"), ack(0, 0, 1), bye),
		all(v5(0, reader, 2), sub5(0, 17, 2), v5(c1, anonymous, 2), pub5(c1|s, 4, 8, 1, "twice"), ack(c1, 2, 1), ack(0, 1, 1), ack(0, 3, 1)),
		all(v4(0, anonymous, 2), pub4(s, 1, 8, 0, "retained"), sub4(0, 8, 1), pub4(s, 3, 9, 1, ""), []byte{actUnsubscribe | s, 1, 1, 8}),
		all(v5(0, root, 2), sub5(0, 22, 1), sub5(0, 23, 1), sub5(0, 24, 1), sub5(0, 25, 1), sub5(0, 26, 1), sub5(0, 33, 1), pub5(0, 2, 9, 1, "shared")),
		all(v5(0, reader2, 0, 0x11, 0, 0, 0, 60), sub5(0, 9, 2, 0x0b, 5), []byte{actReset}, v4(c1, anonymous, 2), pub4(c1|s, 2, 9, 1, "kept"),
			v5(0, reader2, 0, 0x11, 0, 0, 0, 60), ack(0, 0, 1)),
		all(v4(0, x1, 2), []byte{actConnect | stepSync, x1, 2, 60}),
		all(v5(0, d1, 0, 0x11, 0, 0, 0, 60), sub5(0, 5, 1), []byte{actDisconnect, 4, 5, 0x11, 0, 0, 0, 9}),
		all(v5(0, d1, 2), sub5(0, 5, 1), []byte{actUnsubscribe | s, 2, 0, 1, 5}, []byte{actUnsubscribe | s, 3, 0, 2, 5, 8}),
		all(v4(0, d1, 2), []byte{actUnsubscribe | s, 0, 1, 5}, ping), all(v4(0, d1, 2), sub4(0, 5, 1), []byte{actUnsubscribe | s, 2, 1, 5}, bye),
		all(v5(0, d1, 2), pub5(s, 2, byte(len(fuzzTopics)-1), 1, "a long topic")), all(v4(0, d1, 2), pub4(s, 1, 0, 0, "retained at QoS 0")),
		all(v4(0, d1, 2), []byte{actPublish | s, 2, 0, 1, 0xff, 0xff}), all(v5(0, anonymous, 2), []byte{actPublish | s, 2, 8, 1, 0, 0xff, 0xff}),
		all(v5(0, d1, 2), []byte{actPublish | s, 2, 2, 1, 0, 0xff, 0xff}, ping),
		all(v5(0, d1, 2), []byte{actAuth | s, 0x18, 0}), all(v5(0, anonymous, 2), []byte{actAuth | s, 0x19, 2, 0x15, 0}),
		{actRaw, 2, 0xc0, 0}, {actRaw, 6, 0x10, 0xff, 0xff, 0xff, 0xff, 0x7f}, {actRaw, 2, 0x10, 0}, {actRaw, 3, 'G', 'E', 'T'}, {actRaw, 1, 0x10},
		{actPublish | s, 2, 0, 1, 1, 'x'}, {actSubscribe | s, 1, 1, 0, 1}, {actDisconnect | s}, {actAuth | s},
		{actConnect | stepBreak, d1, 2, 60, 0, 9, 4}, {actConnect | stepBreak, d1, 2, 60, 1, 12}, {actConnect | stepBreak, d1, 3, 60, 0, 3, 0, 0, 9, 2},
		all(v4(0, d1, 2), []byte{actPublish | stepBreak | s, 2, 0, 1, 1, 'x', 1, 5}, ping),
		all(v5(0, anonymous, 2), []byte{actSubscribe | stepBreak | s, 1, 0, 1, 8, 1, 0, 5, 0xff}, ping),
		all(v4(0, anonymous, 2), []byte{actUnsubscribe | s, 1, 0}, ping), all(v4(0, d1, 2), []byte{actSubscribe | s, 0, 1, 5, 1}, ping),
		all(v4(0, anonymous, 2), []byte{actSubscribe | s, 1, 3, 8, 3, 27, 0, 29, 1}, ping), all(v4(0, d1, 2), ack(0, 1, 1)), all(v5(0, d1, 2), ack(0, 2, 1)),
		all(v4(0, anonymous, 2), ack(0, 0, 3), ack(0, 1, 3), ack(0, 2, 3), ack(0, 3, 3)),
	}
}
