package launchtest

import (
	"bytes"
	"io"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"meterline/cmd/launch"
)

// setting is a line of an example configuration that sets a variable.
var setting = regexp.MustCompile(`(?m)^#(METERLINE_\w+)=(.*)$`)

// ExamplePrints fails when what print prints lacks a flag of the command, or when the program, told all that it prints, is told
// anything else than its defaults. made makes what the program hands to launch.Parse, args run the command; the test cannot be parallel.
func ExamplePrints[T any](t *testing.T, program string, made func() T, command string, args []string, print func(io.Writer) int) {
	t.Helper()
	parse := func() T {
		cli := made()
		if _, _, err := launch.Parse(cli, program, "", args, io.Discard); err != nil {
			t.Fatal(err)
		}
		return cli
	}
	defaults := parse()
	var out bytes.Buffer
	if status := print(&out); status != 0 {
		t.Fatalf("exit status %d", status)
	}
	lines := setting.FindAllStringSubmatch(out.String(), -1)
	set := map[string]bool{}
	for _, l := range lines {
		set[l[1]] = true
		if l[2] != "" {
			t.Setenv(l[1], strings.Trim(l[2], `"`))
		}
	}
	for flag := range tablesOf(t, program)[command] {
		if name := "METERLINE_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_")); !set[name] {
			t.Errorf("it lacks %s", name)
		}
	}
	if told := parse(); !reflect.DeepEqual(told, defaults) {
		t.Errorf("told its defaults it takes\n%+v\nfor\n%+v", told, defaults)
	}
}
