package simulator

import (
	"encoding/json"
	"errors"
	"fmt"

	"meterline/command"
	"meterline/meterread"
)

// IPC is an industrial PC with meters on serial buses. It knows no register of devices: it finds a meter by the route
// that came with the command, and by that alone.
type IPC struct {
	id     meterread.DeviceID
	wired  map[string]connection // by canonical route
	order  []*Meter
	routes map[string]string // canonical form of routes that were found, by their text
}

type connection struct {
	meter *Meter
	bus   *bus
}

// bus carries one question at a time. One goroutine only.
type bus struct {
	name     string
	serial   bool // a real bus: questions may time out on it
	asking   bool
	deferred []*job // oldest first
}

// NewIPC wires meters to buses. Two meters with the same route, or a route that is no array of hops, is an error.
func NewIPC(id meterread.DeviceID, meters []SiteMeter, b *Behaviour) (*IPC, error) {
	ipc := &IPC{id: id, wired: map[string]connection{}, routes: map[string]string{}}
	buses := map[string]*bus{}
	for _, m := range meters {
		key, name, err := readRoute(m.Route)
		if err != nil {
			return nil, fmt.Errorf("wire %s to %s: %w", m.ID, id, err)
		}
		if other, taken := ipc.wired[key]; taken {
			return nil, fmt.Errorf("wire %s to %s: %s has the same route", m.ID, id, other.meter.id)
		}
		if buses[name] == nil {
			buses[name] = &bus{name: name, serial: true}
		}
		meter := NewMeter(m.ID, b)
		ipc.wired[key] = connection{meter, buses[name]}
		ipc.order = append(ipc.order, meter)
	}
	return ipc, nil
}

type noSuchMeter string

func (e noSuchMeter) Error() string { return string(e) }

// find follows the route. A meter that has another name plate than the device asked for is the wrong one: its readings
// would be booked on somebody else.
func (i *IPC) find(t command.Target) (*Meter, *bus, error) {
	key, ok := i.routes[string(t.Route)]
	if !ok {
		var err error
		if key, _, err = readRoute(t.Route); err != nil {
			return nil, nil, noSuchMeter(err.Error())
		}
	}
	c, found := i.wired[key]
	if !found {
		return nil, nil, noSuchMeter("nothing answers at " + key)
	}
	if len(i.routes) < 2*len(i.wired) {
		i.routes[string(t.Route)] = key
	}
	if c.meter.id != t.DeviceID {
		return nil, nil, noSuchMeter(fmt.Sprintf("the meter at %s is %s", key, c.meter.id))
	}
	return c.meter, c.bus, nil
}

func (i *IPC) meters() []*Meter { return i.order }

func (i *IPC) answersItself(id meterread.DeviceID) bool { return id == i.id }

var errRoute = errors.New("the route is no array of hops")

// readRoute gives the canonical form of a route, in which the order of keys and white space do not count, and the bus
// that it begins at.
func readRoute(route json.RawMessage) (key, busName string, err error) {
	var hops []map[string]any
	if err := json.Unmarshal(route, &hops); err != nil || len(hops) == 0 {
		return "", "", errRoute
	}
	canonical, err := json.Marshal(hops)
	if err != nil {
		return "", "", fmt.Errorf("%w: %w", errRoute, err)
	}
	for _, hop := range hops {
		if name, ok := hop["bus"].(string); ok {
			return string(canonical), name, nil
		}
	}
	return string(canonical), "", nil
}
