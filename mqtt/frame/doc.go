// Package frame takes MQTT packets off a connection and checks that they are well-formed, to the letter of MQTT 3.1.1
// and 5, before anybody interprets them. The codec that decodes them afterwards is more lenient in places, and in some
// it is defenceless: so nothing reaches it that is not sound. What depends on a session's state (packet ids in use,
// topic aliases, quotas) is not looked at here.
package frame
