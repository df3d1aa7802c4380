package meterread

import "errors"

// Item is what a reading is of: an OBIS code A-B:C.D.E, optionally *F (IEC 62056-61, DLMS UA Blue Book 7).
// "1-0:1.8.0" is active energy imported, all tariffs.
type Item string

// ErrItem is what ParseItem answers.
var ErrItem = errors.New("must be an OBIS code such as 1-0:1.8.0, each group 0 to 255")

// afterGroup is what follows the value groups A, B, C and D; after E the code ends or an F comes.
const afterGroup = "-:.."

// ParseItem accepts an OBIS code whose value groups are 0 to 255 without leading zeros; anything else is ErrItem.
func ParseItem(s string) (Item, error) {
	rest := s
	for i := range len(afterGroup) {
		n := valueGroup(rest)
		if n == 0 || n == len(rest) || rest[n] != afterGroup[i] {
			return "", ErrItem
		}
		rest = rest[n+1:]
	}
	n := valueGroup(rest)
	if n > 0 && n < len(rest) && rest[n] == '*' {
		rest = rest[n+1:]
		n = valueGroup(rest)
	}
	if n == 0 || n != len(rest) {
		return "", ErrItem
	}
	return Item(s), nil
}

// valueGroup is the length of the value group that s begins with, 0 when there is none.
func valueGroup(s string) int {
	n, value := 0, 0
	for n < len(s) && n <= 3 && isDigit(s[n]) {
		value = value*10 + int(s[n]-'0')
		n++
	}
	if value > 255 || n > 1 && s[0] == '0' {
		return 0
	}
	return n
}
