// Package mqtt is what gateways, backends and endpoints have in common on the wire: the names of topics, and the QoS 1
// publisher by which a backend hands commands to gateways.
package mqtt

import (
	"strings"

	"meterline/command"
	"meterline/meterread"
)

// Root is the first level of every topic of ours; nobody but Meterline publishes below it.
const Root = "meterline"

// Prefix is what every topic begins with: the name and the version of the wire format.
const Prefix = Root + "/v1/"

const (
	downCommand = "/down/command"
	up          = "/up/"
)

// Channel is the last level of an uplink topic.
type Channel string

// The channels.
const (
	Ack      Channel = "ack"
	Result   Channel = "result"
	Readings Channel = "readings"
	Event    Channel = "event"
)

// Kind is the kind under which the uplink log keeps what comes on c; "" for an unknown channel.
func (c Channel) Kind() command.UplinkKind {
	switch c {
	case Ack:
		return command.UplinkAck
	case Result:
		return command.UplinkResult
	case Readings:
		return command.UplinkReadings
	case Event:
		return command.UplinkEvent
	}
	return ""
}

// AllCommands is the topic of commands to every endpoint (broadcast).
const AllCommands = Prefix + "all" + downCommand

// CommandTopic is where commands for one endpoint are published (unicast).
func CommandTopic(endpoint meterread.DeviceID) string {
	return Prefix + string(endpoint) + downCommand
}

// GroupCommandTopic is where commands for a group are published (multicast).
func GroupCommandTopic(group string) string {
	return Prefix + "group/" + group + downCommand
}

// UplinkTopic is where an endpoint publishes.
func UplinkTopic(endpoint meterread.DeviceID, c Channel) string {
	return Prefix + string(endpoint) + up + string(c)
}

// Reserved says whether an id cannot be an endpoint's, because a topic or a user name means something else by it.
func Reserved(id meterread.DeviceID) bool {
	switch id {
	case "all", "group", "service", "backend":
		return true
	}
	return false
}

// ParseCommandTopic takes the topic of a unicast command apart. The topics of groups and of all are not such topics.
func ParseCommandTopic(topic string) (endpoint meterread.DeviceID, ok bool) {
	rest, ok := strings.CutPrefix(topic, Prefix)
	if !ok {
		return "", false
	}
	id, ok := strings.CutSuffix(rest, downCommand)
	if !ok {
		return "", false
	}
	endpoint, err := meterread.ParseDeviceID(id)
	if err != nil || Reserved(endpoint) {
		return "", false
	}
	return endpoint, true
}

// ParseUplinkTopic takes an uplink topic apart. It does not look closely at the endpoint: compare it with the one that
// is expected, or parse it. It allocates nothing.
func ParseUplinkTopic(topic string) (endpoint meterread.DeviceID, c Channel, ok bool) {
	rest, ok := strings.CutPrefix(topic, Prefix)
	if !ok {
		return "", "", false
	}
	level := strings.IndexByte(rest, '/')
	if level <= 0 {
		return "", "", false
	}
	last, ok := strings.CutPrefix(rest[level:], up)
	if !ok || Channel(last).Kind() == "" {
		return "", "", false
	}
	return meterread.DeviceID(rest[:level]), Channel(last), true
}
