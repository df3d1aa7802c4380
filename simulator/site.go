package simulator

import (
	"encoding/json"

	"meterline/meterread"
)

// Kind is what speaks MQTT at a site.
type Kind string

// The kinds of endpoint, as the HTTP API names them.
const (
	KindDirect Kind = "direct" // a meter that speaks MQTT itself
	KindIPC    Kind = "ipc"    // an industrial PC that speaks for the meters on its buses
)

// Site is one endpoint of a fleet and the meters behind it.
type Site struct {
	ID          meterread.DeviceID
	Kind        Kind
	Credentials Credentials
	Meters      []SiteMeter // of an IPC; a direct meter is its own
}

// SiteMeter is a meter on a bus of an IPC: what is really wired there, whatever is registered.
type SiteMeter struct {
	ID    meterread.DeviceID
	Route json.RawMessage // JSON array of hops; the first that has a "bus" names the bus
}

// Targets lists the devices of the site that can be read.
func (s Site) Targets() []meterread.DeviceID {
	if s.Kind == KindDirect {
		return []meterread.DeviceID{s.ID}
	}
	ids := make([]meterread.DeviceID, len(s.Meters))
	for i, m := range s.Meters {
		ids[i] = m.ID
	}
	return ids
}
