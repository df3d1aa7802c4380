package simulator

import (
	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
)

// Observer is told what the endpoints of a fleet do and see, each endpoint's in its order and from its own goroutine, so it
// must not block. An uplink is told of before it is written, its PUBACK after it was read: what an observer knows to be
// acknowledged was.
type Observer interface {
	Connected(endpoint meterread.DeviceID, broker string)
	Disconnected(endpoint meterread.DeviceID, reason string)
	Published(endpoint meterread.DeviceID, u Uplink, copies int) // for the first time
	Resent(endpoint meterread.DeviceID, id string)               // once more, after a reconnect
	Acknowledged(endpoint meterread.DeviceID, id string)         // once
	Twin(endpoint meterread.DeviceID, connected bool)            // see Fleet.Twin
	Received(endpoint meterread.DeviceID, m *command.Message)    // whether or not it is taken up
	Taken(endpoint meterread.DeviceID, m *command.Message)       // its PUBACK is about to be written
	Executed(endpoint meterread.DeviceID, m *command.Message, device meterread.DeviceID)
	Repeated(endpoint meterread.DeviceID, m *command.Message, device meterread.DeviceID)
}

// Uplink is a message that an endpoint keeps until its PUBACK. Acks, which it does not keep, are none.
type Uplink struct {
	ID      string // of the message; for observers, whether or not the payload holds it
	Channel mqtt.Channel
	Payload []byte // not to be changed
}

// nobody observes.
type nobody struct{}

func (nobody) Connected(meterread.DeviceID, string)                              {}
func (nobody) Disconnected(meterread.DeviceID, string)                           {}
func (nobody) Published(meterread.DeviceID, Uplink, int)                         {}
func (nobody) Resent(meterread.DeviceID, string)                                 {}
func (nobody) Acknowledged(meterread.DeviceID, string)                           {}
func (nobody) Received(meterread.DeviceID, *command.Message)                     {}
func (nobody) Taken(meterread.DeviceID, *command.Message)                        {}
func (nobody) Twin(meterread.DeviceID, bool)                                     {}
func (nobody) Executed(meterread.DeviceID, *command.Message, meterread.DeviceID) {}
func (nobody) Repeated(meterread.DeviceID, *command.Message, meterread.DeviceID) {}
