package meterread

import (
	"errors"
	"strings"
)

// DeviceID names a device in the whole installation: 1 to 64 of A-Z a-z 0-9 . _ -
type DeviceID string

// CommandID names a command: a UUID version 7 (RFC 9562) in its 36-character form.
type CommandID string

// The errors of ParseDeviceID and ParseCommandID.
var (
	ErrDeviceID  = errors.New("must be 1 to 64 of A-Z a-z 0-9 . _ -")
	ErrCommandID = errors.New("must be a UUID of 36 characters")
)

// ParseDeviceID accepts a well-formed device id; anything else is ErrDeviceID.
func ParseDeviceID(s string) (DeviceID, error) {
	if !isName(s) {
		return "", ErrDeviceID
	}
	return DeviceID(s), nil
}

// ParseCommandID accepts a UUID of any version in its 36-character form, and gives it in lower case, which is how
// commands are named here; anything else is ErrCommandID.
func ParseCommandID(s string) (CommandID, error) {
	if len(s) != 36 {
		return "", ErrCommandID
	}
	for i := range len(s) {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (s[i] == '-') || !dash && !isHex(s[i]) {
			return "", ErrCommandID
		}
	}
	return CommandID(strings.ToLower(s)), nil
}

// isName says whether s is 1 to 64 of A-Z a-z 0-9 . _ - . It runs for every reading, where a regexp is felt.
func isName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', isDigit(c), c == '.', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}
