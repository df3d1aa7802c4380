package broker

import (
	"strings"
	"time"

	"meterline/fleet"
	"meterline/mqtt"
)

// role is what a client signed in as.
type role uint8

const (
	roleEndpoint role = iota + 1
	roleService
	roleBackend
)

func (r role) String() string {
	switch r {
	case roleEndpoint:
		return "endpoint"
	case roleService:
		return "service"
	case roleBackend:
		return "backend"
	}
	return "unknown"
}

// identity is who a client is, as far as it matters for what it may do.
type identity struct {
	role      role
	endpoint  fleet.DeviceID // of an endpoint
	kind      fleet.Kind     // of an endpoint
	suffixed  bool           // an endpoint's session beside its own: publishes only
	tenant    fleet.Tenant   // of an endpoint or a token; "": anonymous or backend, bound to none
	admin     bool           // service with scope mqtt:admin
	token     string         // id of a service's token
	expires   time.Time      // of a service's token; zero: never
	mac       []byte         // of an endpoint's secret
	certified bool           // an endpoint that a certificate admitted, without its secret
}

// mayPublish says whether the client may publish to a topic. Below meterline/ there are uplinks, which only their
// endpoint sends, and commands.
func (w identity) mayPublish(topic string) bool {
	switch w.role {
	case roleEndpoint:
		endpoint, _, ok := mqtt.ParseUplinkTopic(topic)
		return ok && endpoint == w.endpoint
	case roleBackend:
		_, ok := mqtt.ParseCommandTopic(topic)
		return ok
	case roleService:
		if !ours(topic) {
			return topic != "" && topic[0] != '$' // topics with $ are the server's (MQTT 5, 4.7.2)
		}
		_, ok := mqtt.ParseCommandTopic(topic)
		return ok && w.admin
	}
	return false
}

// maySubscribe says whether the client may subscribe. For a service it is about filters: one that is wider than what it
// may see, such as #, is allowed, and each delivery is looked at by mayReceive.
func (w identity) maySubscribe(filter string) bool {
	switch w.role {
	case roleEndpoint:
		return !w.suffixed && filter == mqtt.CommandTopic(w.endpoint)
	case roleService:
		_, filter = shared(filter)
		return !ours(filter) || w.admin || withinUplinks(filter)
	}
	return false
}

// mayReceive says whether a service may be given a message below meterline/ that is about a device of the tenant.
func (w identity) mayReceive(topic string, about fleet.Tenant) bool {
	if w.role != roleService || w.tenant != "" && w.tenant != about {
		return false
	}
	_, _, uplink := mqtt.ParseUplinkTopic(topic)
	return uplink || w.admin
}

// mayCommand says whether the client may send commands to a device of the tenant.
func (w identity) mayCommand(about fleet.Tenant) bool {
	return w.role == roleBackend || w.admin && (w.tenant == "" || w.tenant == about)
}

// ours says whether a topic, or a filter without wildcards on its first level, is Meterline's own.
func ours(topic string) bool {
	first, _, _ := strings.Cut(topic, "/")
	return first == mqtt.Root
}

// shared takes the filter of a shared subscription, $share/{group}/{filter}, apart.
func shared(filter string) (group, inner string) {
	prefix, rest, ok := strings.Cut(filter, "/")
	if !ok || prefix != "$share" {
		return "", filter
	}
	group, inner, _ = strings.Cut(rest, "/")
	return group, inner
}

// withinUplinks says whether a filter matches nothing but what meterline/v1/+/up/# does.
func withinUplinks(filter string) bool {
	rest, ok := strings.CutPrefix(filter, mqtt.Prefix)
	if !ok {
		return false
	}
	endpoint, rest, ok := strings.Cut(rest, "/")
	if !ok || endpoint == "#" {
		return false
	}
	channel, _, _ := strings.Cut(rest, "/")
	return channel == "up"
}

// mayMatchOurs says whether a filter can match a topic below meterline/.
func mayMatchOurs(filter string) bool {
	_, filter = shared(filter)
	first, _, _ := strings.Cut(filter, "/")
	return first == mqtt.Root || first == "+" || first == "#"
}
