package meterread

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// The decoders take what endpoints publish. They are lenient where a peer may be newer (unknown members are ignored, a
// null is a missing member, of two members with one name the last counts) and strict in everything that is stored.
// What cannot be understood is handed back with the code of its dead letter: a part alone as a Bad, a message as a
// whole as a *Poison. They never panic and keep no state. What they return as []byte (Raw, Data) may be a part of the
// payload itself: nobody may change the payload, or these, while they are in use. Strings are copies.

// Bounds of one message.
const (
	maxParts     = 10_000 // results, readings or device ids, each counted over the whole message
	maxMessageID = 128    // bytes; longer is refused: it becomes part of keys
	maxUnit      = 32     // bytes; longer is refused
	maxCode      = 64     // bytes; longer is cut: the result or ack must count all the same
	maxMessage   = 1024   // bytes; longer is cut
)

// open looks at a payload as a whole (UTF-8, JSON, an object, not too deep) and returns the object.
func open(payload []byte) ([]byte, *Poison) {
	if !utf8.Valid(payload) {
		return nil, &Poison{CodeBadUTF8, "the payload is not UTF-8"}
	}
	if !json.Valid(payload) {
		var whole json.RawMessage
		return nil, &Poison{CodeBadJSON, json.Unmarshal(payload, &whole).Error()}
	}
	object := payload[space(payload, 0):]
	if !is(object, '{') {
		return nil, &Poison{CodeBadJSON, "the payload is not an object"}
	}
	// Counting is many times cheaper than looking, and few messages have so many brackets.
	brackets := bytes.Count(object, []byte{'['}) + bytes.Count(object, []byte{'{'})
	if brackets > maxDepth && depth(object) > maxDepth {
		return nil, &Poison{CodeBadJSON, "the payload nests too deep"}
	}
	return object, nil
}

// version checks the member v.
func version(raw []byte) *Poison {
	switch {
	case absent(raw):
		return &Poison{CodeUnsupportedVersion, "v is missing"}
	case string(raw) != "1":
		return &Poison{CodeUnsupportedVersion, "v is not 1"}
	}
	return nil
}

// messageID reads the member message_id, which may be missing; code is for when it is not an id.
func messageID(raw []byte, code string) (string, *Poison) {
	id, ok := optionalText(raw)
	if !ok || len(id) > maxMessageID {
		return "", &Poison{code, "message_id is not a string of at most 128 bytes"}
	}
	return id, nil
}

// count checks a member that must be an array of at most maxParts and says how many elements it has.
func count(raw []byte, name, code string) (int, *Poison) {
	if !is(raw, '[') {
		return 0, &Poison{code, name + " is missing or not an array"}
	}
	n := 0
	for range elements(raw) {
		n++
	}
	if n > maxParts {
		return 0, &Poison{code, name + " has more than 10000 elements"}
	}
	return n, nil
}

// optionalText is a string member that may be missing, which is ""; false when it is something else.
func optionalText(raw []byte) (string, bool) {
	if absent(raw) {
		return "", true
	}
	return text(raw)
}

// cut is s, or as many of its first characters as fit into limit bytes.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}
