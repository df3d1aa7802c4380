package meterread

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
)

// Walking over JSON that is known to be valid. A payload is checked once, by encoding/json; after that its parts are
// found by skipping, so that each part can be understood, refused and kept alone without being decoded again and again.
// Everything here trusts the check: on text that is not valid JSON it may panic.

// maxDepth is how deep a payload may nest. Ours need 5; what is deeper is an attack, on us or on the JSON functions of
// the database that event data may meet.
const maxDepth = 64

// fields goes over the members of an object in their order: unquoted name and raw value.
func fields(object []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(name, value []byte) bool) {
		i := space(object, 1)
		for object[i] != '}' {
			if object[i] == ',' {
				i = space(object, i+1)
			}
			name := object[i:end(object, i)]
			i = space(object, i+len(name)) // the colon
			i = space(object, i+1)
			e := end(object, i)
			if !yield(unquoted(name), object[i:e:e]) {
				return
			}
			i = space(object, e)
		}
	}
}

// elements goes over the elements of an array: place and raw value.
func elements(array []byte) iter.Seq2[int, []byte] {
	return func(yield func(n int, value []byte) bool) {
		i := space(array, 1)
		for n := 0; array[i] != ']'; n++ {
			if array[i] == ',' {
				i = space(array, i+1)
			}
			e := end(array, i)
			if !yield(n, array[i:e:e]) {
				return
			}
			i = space(array, e)
		}
	}
}

// space is the place of the first byte from i on that is not white space (RFC 8259 2).
func space(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r') {
		i++
	}
	return i
}

// end is the place after the value that begins at i.
func end(b []byte, i int) int {
	switch b[i] {
	case '"':
		return stringEnd(b, i)
	case '{', '[':
		depth := 0
		for ; ; i++ {
			switch b[i] {
			case '"':
				i = stringEnd(b, i) - 1
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
		}
	}
	for ; i < len(b); i++ {
		switch b[i] {
		case ',', ']', '}', ' ', '\n', '\t', '\r':
			return i
		}
	}
	return i
}

// stringEnd is the place after the string that begins at i.
func stringEnd(b []byte, i int) int {
	for i++; b[i] != '"'; i++ {
		if b[i] == '\\' {
			i++
		}
	}
	return i + 1
}

// depth is how deep b nests: 1 for an object of scalars.
func depth(b []byte) int {
	deepest, now := 0, 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			i = stringEnd(b, i) - 1
		case '{', '[':
			now++
			deepest = max(deepest, now)
		case '}', ']':
			now--
		}
	}
	return deepest
}

// unquoted is the text of a JSON string. The text shares memory with it where nothing is escaped.
func unquoted(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	_ = json.Unmarshal(raw, &s) // valid, see above
	return []byte(s)
}

// text is a JSON string as text, a copy; false when raw is not a string. NUL, which no text column of PostgreSQL takes,
// becomes U+FFFD like everything else that is not text.
func text(raw []byte) (string, bool) {
	if !is(raw, '"') {
		return "", false
	}
	s := string(unquoted(raw))
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	return s, true
}

// is says whether a raw value begins with c, which tells its type: { [ " t f n, else a number.
func is(raw []byte, c byte) bool { return len(raw) > 0 && raw[0] == c }

// absent says whether a member is missing or null, which mean the same everywhere on the wire.
func absent(raw []byte) bool { return len(raw) == 0 || raw[0] == 'n' }
