package load

import (
	"sync"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit/history"
)

// recorder writes down what the endpoints of a fleet do and see.
type recorder struct {
	history *history.Writer
	intents sync.Map // message id → history.Intent, of uplinks that break the rules
}

func (r *recorder) add(e meterread.DeviceID, kind history.Kind, phase history.Phase, id string, m *history.Message) {
	r.history.Add(history.Event{Actor: string(e), Kind: kind, Phase: phase, ID: id, Message: m})
}

// Connected implements simulator.Observer, as do all that follow.
func (r *recorder) Connected(e meterread.DeviceID, broker string) {
	r.add(e, history.Connect, history.OK, "", &history.Message{Broker: broker})
}

// Disconnected tells why.
func (r *recorder) Disconnected(e meterread.DeviceID, reason string) {
	r.add(e, history.Connect, history.Fail, "", &history.Message{Reason: reason})
}

// Published keeps the payload as it was.
func (r *recorder) Published(e meterread.DeviceID, u simulator.Uplink, copies int) {
	m := &history.Message{Channel: string(u.Channel)}
	m.SetBody(u.Payload)
	if copies > 1 {
		m.Copies = copies
	}
	if intent, lie := r.intents.LoadAndDelete(u.ID); lie {
		m.Intent = intent.(history.Intent)
	}
	r.add(e, history.Uplink, history.Invoke, u.ID, m)
}

// Resent is a repeat on another connection.
func (r *recorder) Resent(e meterread.DeviceID, id string) {
	r.add(e, history.Resend, history.Invoke, id, nil)
}

// Acknowledged is the PUBACK.
func (r *recorder) Acknowledged(e meterread.DeviceID, id string) {
	r.add(e, history.Uplink, history.OK, id, nil)
}

// Received lists the operations of the message.
func (r *recorder) Received(e meterread.DeviceID, m *command.Message) {
	got := of(m)
	for _, t := range m.Targets {
		got.DeviceIDs = append(got.DeviceIDs, string(t.DeviceID))
	}
	r.add(e, history.Received, history.OK, m.MessageID, got)
}

// Taken lists them again: the server may believe from now on that the endpoint has them.
func (r *recorder) Taken(e meterread.DeviceID, m *command.Message) {
	got := of(m)
	for _, t := range m.Targets {
		got.DeviceIDs = append(got.DeviceIDs, string(t.DeviceID))
	}
	r.add(e, history.Taken, history.OK, m.MessageID, got)
}

// Twin is a second session of the endpoint.
func (r *recorder) Twin(e meterread.DeviceID, connected bool) {
	phase := history.Invoke
	if connected {
		phase = history.OK
	}
	r.add(e, history.Twin, phase, "", nil)
}

// Executed is a meter at work.
func (r *recorder) Executed(e meterread.DeviceID, m *command.Message, d meterread.DeviceID) {
	got := of(m)
	got.DeviceIDs = []string{string(d)}
	r.add(e, history.Executed, history.OK, m.MessageID, got)
}

// Repeated is a meter that need not be asked.
func (r *recorder) Repeated(e meterread.DeviceID, m *command.Message, d meterread.DeviceID) {
	got := of(m)
	got.DeviceIDs = []string{string(d)}
	r.add(e, history.Repeated, history.OK, m.MessageID, got)
}

func of(m *command.Message) *history.Message {
	return &history.Message{CommandID: string(m.CommandID), Attempt: m.Attempt, ExpiresAt: m.ExpiresAt}
}
