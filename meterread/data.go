package meterread

import (
	"bytes"
	"strconv"
	"unicode/utf16"
)

// maxNumber bounds the numbers in event data: bytes as written, and the exponent either way. JSON functions of
// databases take some 130 000 digits and then fail, which would make a message that can never be stored.
const maxNumber = 400

// storable is event data that every JSON column takes: escapes that stand for no character (NUL and half a surrogate
// pair, which PostgreSQL's jsonb refuses) become \ufffd, and numbers beyond measure are refused. It is data itself
// where nothing had to be changed.
func storable(data []byte) ([]byte, *Poison) {
	for i := 0; i < len(data); {
		switch c := data[i]; {
		case c == '"':
			i = stringEnd(data, i)
		case c == '-' || isDigit(c):
			e := end(data, i)
			if !modest(data[i:e]) {
				return nil, &Poison{CodeBadEvent, "data has a number beyond measure"}
			}
			i = e
		default:
			i++
		}
	}
	if bytes.Contains(data, []byte(`\u`)) {
		return mendEscapes(data), nil
	}
	return data, nil
}

// modest says whether a JSON number is within maxNumber.
func modest(number []byte) bool {
	if len(number) > maxNumber {
		return false
	}
	e := bytes.IndexAny(number, "eE")
	if e < 0 {
		return true
	}
	n, err := strconv.Atoi(string(number[e+1:]))
	return err == nil && -maxNumber <= n && n <= maxNumber
}

// mendEscapes is a copy of JSON text in which \u escapes that stand for no character are \ufffd.
func mendEscapes(data []byte) []byte {
	mended := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		unit, ok := escapedUnit(data[i:])
		switch {
		case !ok && data[i] == '\\':
			mended = append(mended, data[i], data[i+1])
			i += 2
		case !ok:
			mended = append(mended, data[i])
			i++
		case unit == 0:
			mended = append(mended, `\ufffd`...)
			i += 6
		case utf16.IsSurrogate(unit):
			low, _ := escapedUnit(data[i+6:])
			if utf16.DecodeRune(unit, low) == '\uFFFD' {
				mended = append(mended, `\ufffd`...)
				i += 6
				continue
			}
			mended = append(mended, data[i:i+12]...)
			i += 12
		default:
			mended = append(mended, data[i:i+6]...)
			i += 6
		}
	}
	return mended
}

// escapedUnit is the UTF-16 unit of the escape \uXXXX that b begins with.
func escapedUnit(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n), err == nil
}
