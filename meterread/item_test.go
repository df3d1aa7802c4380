package meterread

import (
	"errors"
	"regexp"
	"testing"
)

func TestParseItem(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		in   string
		good bool
		why  string
	}{
		{"1-0:1.8.0", true, "active energy imported"},
		{"1-0:1.8.0*255", true, "with F"},
		{"0-0:96.1.0", true, "serial number"},
		{"7-0:3.0.0", true, "gas volume"},
		{"255-255:255.255.255*255", true, "every group at its end"},
		{"0-0:0.0.0*0", true, "every group zero"},
		{"", false, "empty"},
		{"1.8.0", false, "reduced form"},
		{"1-0:1.8", false, "E is missing"},
		{"1-0:1.8.", false, "E is empty"},
		{"-0:1.8.0", false, "A is empty"},
		{"1-0:1.8.0*", false, "F is empty"},
		{"1-0:1.8.0*1*2", false, "two F"},
		{"1-0:1.8.0.0", false, "a group too many"},
		{"256-0:1.8.0", false, "A over 255"},
		{"1-0:1.8.256", false, "E over 255"},
		{"1-0:1.8.0*256", false, "F over 255"},
		{"1-0:1.8.1000", false, "four digits"},
		{"1-0:1.8.0000", false, "four digits that are zero"},
		{"01-0:1.8.0", false, "leading zero"},
		{"1-00:1.8.0", false, "leading zero that is zero"},
		{"1-0:1.8.0*05", false, "leading zero in F"},
		{"1:0-1.8.0", false, "separators swapped"},
		{"1-0:1,8,0", false, "commas"},
		{" 1-0:1.8.0", false, "space before"},
		{"1-0:1.8.0\n", false, "line end after"},
		{"١-0:1.8.0", false, "digits of another script"},
		{"+1-0:1.8.0", false, "sign"},
		{"a-b:c.d.e", false, "letters"},
	} {
		item, err := ParseItem(tc.in)
		if tc.good && (err != nil || string(item) != tc.in) {
			t.Errorf("%s: ParseItem(%q) = %q, %v; want it as it is", tc.why, tc.in, item, err)
		}
		if !tc.good && (!errors.Is(err, ErrItem) || item != "") {
			t.Errorf("%s: ParseItem(%q) = %q, %v; want ErrItem", tc.why, tc.in, item, err)
		}
	}
}

// itemPattern says the same as ParseItem in another way: 0 to 255 without leading zeros, five or six times.
var itemPattern = func() *regexp.Regexp {
	const g = `(?:0|[1-9][0-9]?|1[0-9][0-9]|2[0-4][0-9]|25[0-5])`
	return regexp.MustCompile(`^` + g + `-` + g + `:` + g + `\.` + g + `\.` + g + `(?:\*` + g + `)?$`)
}()
