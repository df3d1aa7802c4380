package testkit

import "testing"

// Addresses are given out long before anybody listens there.
func TestNoAddressIsGivenTwice(t *testing.T) {
	t.Parallel()
	given := map[string]bool{}
	for range 300 {
		address, err := FreeAddress()
		if err != nil {
			t.Fatal(err)
		}
		if given[address] {
			t.Fatalf("%s was given before", address)
		}
		given[address] = true
	}
}
