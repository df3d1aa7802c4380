// Package wiretest is a catalogue of MQTT 3.1.1 and 5 wire cases, good and malformed, and what runs it against any broker
// that listens on an address: black box, raw bytes, clause by clause.
//
// It has a client of its own that writes what a case says, valid or not, and reads strictly: whatever the server sends is
// checked against both specifications, whether a case is about that or not. It shares no code with any broker.
//
// A clause is named by its number in the specification of the case's version, such as 3.3.1-4 for [MQTT-3.3.1-4], or by
// its section, such as 3.2.2.3.10, where the text says it without a number. Where a specification allows several answers,
// a case takes each of them. Where it says SHOULD, a case wants it: a DISCONNECT with a reason code before MQTT 5
// connections are closed above all.
package wiretest
