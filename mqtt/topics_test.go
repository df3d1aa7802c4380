package mqtt

import (
	"strings"
	"testing"

	"meterline/command"
	"meterline/meterread"
)

func TestTopicNames(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{CommandTopic("ipc-1"), "meterline/v1/ipc-1/down/command"},
		{GroupCommandTopic("north"), "meterline/v1/group/north/down/command"},
		{AllCommands, "meterline/v1/all/down/command"},
		{UplinkTopic("m.1", Ack), "meterline/v1/m.1/up/ack"},
		{UplinkTopic("m.1", Result), "meterline/v1/m.1/up/result"},
		{UplinkTopic("m.1", Readings), "meterline/v1/m.1/up/readings"},
		{UplinkTopic("m.1", Event), "meterline/v1/m.1/up/event"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestParseCommandTopic(t *testing.T) {
	for _, c := range []struct {
		topic    string
		endpoint meterread.DeviceID
		ok       bool
	}{
		{"meterline/v1/ipc-1/down/command", "ipc-1", true},
		{"meterline/v1/" + strings.Repeat("x", 64) + "/down/command", meterread.DeviceID(strings.Repeat("x", 64)), true},
		{"meterline/v1/" + strings.Repeat("x", 65) + "/down/command", "", false},
		{"meterline/v1/all/down/command", "", false},
		{"meterline/v1/group/down/command", "", false},
		{"meterline/v1/group/north/down/command", "", false},
		{"meterline/v1/ipc-1/down/command/", "", false},
		{"meterline/v1/ipc-1/down/commands", "", false},
		{"meterline/v1/+/down/command", "", false},
		{"meterline/v1//down/command", "", false},
		{"meterline/v2/ipc-1/down/command", "", false},
		{"/meterline/v1/ipc-1/down/command", "", false},
		{"meterline/v1/down/command", "", false},
		{"", "", false},
	} {
		endpoint, ok := ParseCommandTopic(c.topic)
		if endpoint != c.endpoint || ok != c.ok {
			t.Errorf("ParseCommandTopic(%q) = %q, %v", c.topic, endpoint, ok)
		}
	}
}

func TestParseUplinkTopic(t *testing.T) {
	for _, c := range []struct {
		topic    string
		endpoint meterread.DeviceID
		kind     command.UplinkKind
	}{
		{"meterline/v1/ipc-1/up/ack", "ipc-1", command.UplinkAck},
		{"meterline/v1/ipc-1/up/result", "ipc-1", command.UplinkResult},
		{"meterline/v1/ipc-1/up/readings", "ipc-1", command.UplinkReadings},
		{"meterline/v1/ipc-1/up/event", "ipc-1", command.UplinkEvent},
		{"meterline/v1/ipc-1/up/", "", ""},
		{"meterline/v1/ipc-1/up/result/", "", ""},
		{"meterline/v1/ipc-1/up/connected", "", ""},
		{"meterline/v1/ipc-1/up", "", ""},
		{"meterline/v1/ipc-1/x/up/ack", "", ""},
		{"meterline/v1//up/ack", "", ""},
		{"meterline/v1/ipc-1/down/command", "", ""},
		{"meterline/v1", "", ""},
		{"", "", ""},
	} {
		endpoint, channel, ok := ParseUplinkTopic(c.topic)
		if endpoint != c.endpoint || channel.Kind() != c.kind || ok != (c.kind != "") {
			t.Errorf("ParseUplinkTopic(%q) = %q, %q, %v", c.topic, endpoint, channel, ok)
		}
	}
}

func TestParseUplinkTopicAllocatesNothing(t *testing.T) {
	topic := UplinkTopic("ipc-1", Result)
	if n := testing.AllocsPerRun(100, func() { ParseUplinkTopic(topic) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
