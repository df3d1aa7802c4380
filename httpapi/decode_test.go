package httpapi

import (
	"errors"
	"testing"

	"meterline/fleet"
)

func TestDecodeTellsWhereJSONIsWrong(t *testing.T) {
	_, _, err := decode[fleet.NewToken]([]byte("{\n  \"name\": nope}"))
	p, ok := errors.AsType[*Problem](err)
	if !ok || p.Detail != "the body is not JSON: line 2, column 12: invalid character 'o' in literal null (expecting 'u')" {
		t.Errorf("got %v", err)
	}
}

func TestEventIDsRise(t *testing.T) {
	last := int64(-1)
	for changed := int64(0); changed < 4; changed++ {
		for place := range 3 {
			id := eventID(changed, place, place == 2)
			if id <= last {
				t.Errorf("%d after %d", id, last)
			}
			last = id
		}
	}
	if id := eventID(1, 5_000_000, false); id >= eventID(2, 0, false) || id > eventID(1, 0, true) {
		t.Errorf("a crowded transaction has the id %d", id)
	}
}
