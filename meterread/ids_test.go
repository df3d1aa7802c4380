package meterread

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

var deviceIDPattern = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func TestParseDeviceID(t *testing.T) {
	t.Parallel()
	good := []string{"m-001", "A", "0", ".", "_", "-", "a.b_c-D9", strings.Repeat("x", 64)}
	for _, s := range good {
		if id, err := ParseDeviceID(s); err != nil || string(id) != s {
			t.Errorf("ParseDeviceID(%q) = %q, %v; want it as it is", s, id, err)
		}
	}
	bad := []string{"", " ", "a b", "a/b", "a+", "#", "$SYS", "Zähler", "m\x00", "m\n", "m:1", "m@1", strings.Repeat("x", 65)}
	for _, s := range bad {
		if id, err := ParseDeviceID(s); !errors.Is(err, ErrDeviceID) || id != "" {
			t.Errorf("ParseDeviceID(%q) = %q, %v; want ErrDeviceID", s, id, err)
		}
	}
}

func TestParseCommandID(t *testing.T) {
	t.Parallel()
	const id = "0192f0c1-2b3c-7d4e-8f50-123456789abc"
	for in, want := range map[string]CommandID{
		id:                                     id,
		strings.ToUpper(id):                    id,
		"00000000-0000-0000-0000-000000000000": "00000000-0000-0000-0000-000000000000",
		"":                                     "",
		id[:35]:                                "",
		id + "0":                               "",
		"{" + id[:34] + "}":                    "",
		strings.ReplaceAll(id, "-", ""):        "",
		strings.ReplaceAll(id, "-", "_"):       "",
		strings.Replace(id, "c", "g", 1):       "",
		"0192f0c12-b3c-7d4e-8f50-123456789abc": "",
		"0192f0c1-2b3c-7d4e-8f50-12345678-abc": "",
	} {
		got, err := ParseCommandID(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseCommandID(%q) = %q, %v; want %q", in, got, err, want)
		}
		if err != nil && !errors.Is(err, ErrCommandID) {
			t.Errorf("ParseCommandID(%q): %v, want ErrCommandID", in, err)
		}
	}
}
