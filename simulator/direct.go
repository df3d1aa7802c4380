package simulator

import (
	"meterline/command"
	"meterline/meterread"
)

// Direct is a meter that speaks MQTT itself: it answers for itself alone, one question at a time.
type Direct struct {
	meter *Meter
	line  *bus
}

// NewDirect makes a direct meter.
func NewDirect(id meterread.DeviceID, b *Behaviour) *Direct {
	return &Direct{meter: NewMeter(id, b), line: &bus{name: "self"}}
}

func (d *Direct) find(t command.Target) (*Meter, *bus, error) {
	if t.DeviceID != d.meter.id {
		return nil, nil, noSuchMeter("this is " + string(d.meter.id))
	}
	return d.meter, d.line, nil
}

func (d *Direct) meters() []*Meter { return []*Meter{d.meter} }

func (d *Direct) answersItself(meterread.DeviceID) bool { return false }
