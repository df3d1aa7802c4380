package fleet

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"meterline/meterread"
)

// DeviceID names a device in the whole installation.
type DeviceID = meterread.DeviceID

// Tenant names whose a thing is. Nothing of one tenant is visible to another.
type Tenant string

// maxTenant is how many characters a tenant's name has at most.
const maxTenant = 64

// ParseTenant reads the name of a tenant: 1 to 64 characters, none of them a control character, the first and the last no
// space. The error says what is wrong.
func ParseTenant(s string) (Tenant, error) {
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s):
		return "", errors.New("must be UTF-8")
	case n < 1 || n > maxTenant:
		return "", fmt.Errorf("must be 1 to %d characters, not %d", maxTenant, n)
	case strings.ContainsFunc(s, unicode.IsControl):
		return "", errors.New("must not hold control characters")
	case strings.TrimSpace(s) != s:
		return "", errors.New("must not begin or end with a space")
	}
	return Tenant(s), nil
}

// Kind says how a device is reached.
type Kind string

// The kinds of device.
const (
	Direct Kind = "direct" // speaks MQTT itself
	IPC    Kind = "ipc"    // an industrial PC that speaks MQTT for the meters on its buses
	Meter  Kind = "meter"  // behind an IPC, found by its route
)

// Device is a meter or an IPC. Shape and names are those of the HTTP API.
type Device struct {
	ID         DeviceID          `json:"id"`
	Tenant     Tenant            `json:"tenant"`
	Name       string            `json:"name"`
	Kind       Kind              `json:"kind"`
	EndpointID DeviceID          `json:"endpoint_id"` // the MQTT client that speaks for it: itself, or its IPC
	Route      json.RawMessage   `json:"route"`       // JSON array: ordered hops from the IPC to the meter
	Tags       map[string]string `json:"tags"`
	Groups     []string          `json:"groups"`
	Enabled    bool              `json:"enabled"`
	LastReadAt *time.Time        `json:"last_read_at"`
	CreatedAt  time.Time         `json:"created_at"`
	UpdatedAt  time.Time         `json:"updated_at"`
}

// Info is what is known of a device when a command is issued; every operation keeps its own copy.
type Info struct {
	Name       string            `json:"name"`
	Kind       Kind              `json:"kind"`
	EndpointID DeviceID          `json:"endpoint_id"`
	Route      json.RawMessage   `json:"route"`
	Tags       map[string]string `json:"tags"`
}

// Info copies what operations keep of d.
func (d Device) Info() Info {
	return Info{Name: d.Name, Kind: d.Kind, EndpointID: d.EndpointID, Route: d.Route, Tags: d.Tags}
}

// Partition is the partition, 0 to n-1, that an endpoint belongs to: FNV-1a of its id. It is stored beside devices and
// operations and used by gateways, so it can never change in an installation that holds data.
func Partition(endpoint DeviceID, n int) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(endpoint))
	return int(h.Sum32() % uint32(n))
}

// Group is a named set of devices of one tenant.
type Group struct {
	Name        string    `json:"name"`
	Description string    `json:"description"`
	Devices     int       `json:"devices"` // how many members
	CreatedAt   time.Time `json:"created_at"`
}
