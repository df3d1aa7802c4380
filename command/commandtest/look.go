package commandtest

import (
	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// What is in the record, for those who check it. Nothing of it may be changed.

// Operations lists all operations in order of their keys.
func (l *Ledger) Operations() []*command.Operation { return l.each() }

// Operation finds an operation; nil when there is none.
func (l *Ledger) Operation(k command.Key) *command.Operation { return l.operations[k] }

// Command finds a command; nil when there is none.
func (l *Ledger) Command(id command.ID) *command.Command { return l.commands[id] }

// Issued lists the commands in the order they were accepted.
func (l *Ledger) Issued() []command.ID { return l.order }

// Device finds a device.
func (l *Ledger) Device(id fleet.DeviceID) (fleet.Device, bool) {
	d, ok := l.devices[id]
	return d, ok
}

// StoredReadings lists the readings in the order they were stored.
func (l *Ledger) StoredReadings() []meterread.Reading { return l.readings }

// StoredLetters lists the dead letters in the order they were written.
func (l *Ledger) StoredLetters() []command.DeadLetter { return l.letters }

// StoredEvents lists the events in the order they were written.
func (l *Ledger) StoredEvents() []command.Event { return l.events }

// Position is how far a partition of the log has been taken over.
func (l *Ledger) Position(n int) command.LogPosition { return l.partitions[n].at }

// Owner is who owns a partition; "" when it is free.
func (l *Ledger) Owner(n int) string { return l.partitions[n].owner }
