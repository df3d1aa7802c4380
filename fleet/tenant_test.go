package fleet_test

import (
	"strings"
	"testing"

	"meterline/fleet"
)

func TestNamesOfTenants(t *testing.T) {
	t.Parallel()
	for name, fine := range map[string]bool{
		"a": true, "Stadtwerke Graz": true, strings.Repeat("ä", 64): true,
		"": false, strings.Repeat("a", 65): false, " a": false, "a ": false, "a\nb": false, "a\x00": false, "\xff": false,
	} {
		got, err := fleet.ParseTenant(name)
		if (err == nil) != fine || fine && string(got) != name {
			t.Errorf("%q: %q %v", name, got, err)
		}
	}
}
