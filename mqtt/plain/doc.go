// Package plain is plain MQTT 3.1.1 and 5 for service clients: sessions, subscriptions, QoS 1 and 2, retained messages,
// wills, shared subscriptions, expiry. It is an engine of state: it has no sockets, no framing and no CONNECT; packets
// come in decoded and go out through a Link. All of it is in memory, bounded, and of one gateway.
//
// Clause numbers in comments ([MQTT-4.3.3-10]) are those of MQTT 5 unless 3.1.1 is said.
//
// # Who waits for whom
//
// Nobody waits for a client. A message is given out by the goroutine that publishes it: the filters are matched under the
// trie's lock, which is held for that alone, and then each subscriber is visited under a lock of its own, which is held
// while a message is put into its queue or handed to its Link. A client that is behind fills its own queue and is
// disconnected when that is full. Locks are taken in this order, never the other way round:
//
//	stripe of the session's key → group of a shared subscription → session → trie, retained, registry, timetable
//
// # Limits
//
// Everything a client can make grow has a limit in Options. What overflows is dropped newest first, so that what was kept
// stays without gaps, and is counted.
package plain
