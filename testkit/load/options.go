package load

import (
	"errors"
	"fmt"
	"time"
)

// Tenant is one of those that share the installation. Its devices' ids begin with its name, which therefore must not be
// the beginning of another's.
type Tenant struct {
	Name  string
	Token string // with all scopes of the tenant
}

// Options say what a load is. Zero fields mean the defaults beside them.
type Options struct {
	MQTT    []string // of all gateways, host:port; an endpoint that lost one tries the next
	API     []string // of all backends, such as http://127.0.0.1:8080
	Tenants []Tenant
	Seed    uint64    // what actors decide depends on it and their names alone; what they see does not
	History string    // a directory: the load writes the file "load" in it
	Start   time.Time // of the run; now

	// Per tenant.
	IPCs         int // 4
	MetersPerIPC int // 10
	Direct       int // 8
	Clients      int // 2
	Open         int // commands that a client follows at a time; 12

	Readings float64       // that nobody asked for, per second of all devices of all tenants; 0: none
	Looks    float64       // at old commands, per second of each tenant, whether answers come or not; 0: none
	Think    time.Duration // of a client between two commands, on average; 1 s
	Deadline time.Duration // of the longest commands; 30 s
	Lies     time.Duration // between two lies of a tenant's devices, on average; 1 s, negative: none
	Cuts     time.Duration // between two connections that are cut, of all endpoints; 1 s, negative: none
	Twice    float64       // share of uplinks that are published twice; 0.02, negative: none
	ClockOff time.Duration // by how much meters' clocks are wrong at most
}

// withDefaults fills in what was left out, and joins all complaints.
func (o Options) withDefaults() (Options, error) {
	var errs []error
	for name, n := range map[string]int{"MQTT": len(o.MQTT), "API": len(o.API), "Tenants": len(o.Tenants), "History": len(o.History)} {
		if n == 0 {
			errs = append(errs, fmt.Errorf("%s is missing", name))
		}
	}
	set(&o.IPCs, 4)
	set(&o.MetersPerIPC, 10)
	set(&o.Direct, 8)
	set(&o.Clients, 2)
	set(&o.Open, 12)
	set(&o.Think, time.Second)
	set(&o.Deadline, 30*time.Second)
	set(&o.Lies, time.Second)
	set(&o.Cuts, time.Second)
	set(&o.Twice, 0.02)
	if o.Start.IsZero() {
		o.Start = time.Now()
	}
	if o.Deadline < 4*time.Second {
		errs = append(errs, errors.New("deadline: less than 4s: what has less than 2s left is not sent"))
	}
	return o, errors.Join(errs...)
}

func set[T comparable](field *T, value T) {
	if *field == *new(T) {
		*field = value
	}
}
