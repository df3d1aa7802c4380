package simulator

import "sync/atomic"

// Stats counts what a fleet did. Safe for concurrent use; Snapshot reads it.
type Stats struct {
	connected, connects, connectErrors                           atomic.Int64
	commands, badCommands, refusedFull                           atomic.Int64
	operations, acted, repeats, expired                          atomic.Int64
	results, journal, published, republished, duplicates         atomic.Int64
	readingsJournalled, readingsAcked                            atomic.Int64
	busTimeouts, errors, late, lost, garbage, offline, forgotten atomic.Int64
	lastError                                                    atomic.Pointer[string]
}

// Counters is one look at Stats. Connected and Journal are levels, all others only rise.
type Counters struct {
	Connected     int64 `json:"connected"`      // endpoints subscribed to their commands
	Connects      int64 `json:"connects"`       // sessions that came up
	ConnectErrors int64 `json:"connect_errors"` // attempts that failed

	Commands    int64 `json:"commands"`     // messages taken up
	BadCommands int64 `json:"bad_commands"` // messages that could not be understood
	RefusedFull int64 `json:"refused_full"` // messages not taken up, and not acknowledged, for want of room

	Operations int64 `json:"operations"` // operations asked for, repeats included
	Acted      int64 `json:"acted"`      // operations a meter was asked for
	Repeats    int64 `json:"repeats"`    // operations asked for again: answered from memory, or still in progress
	Expired    int64 `json:"expired"`    // operations dropped because they were over
	Forgotten  int64 `json:"forgotten"`  // operations dropped from a full memory

	Results            int64 `json:"results"`             // results journalled, repeats included
	Journal            int64 `json:"journal"`             // messages waiting for their PUBACK
	Published          int64 `json:"published"`           // journalled messages published
	Republished        int64 `json:"republished"`         // of those: again, after a reconnect
	ReadingsJournalled int64 `json:"readings_journalled"` // repeats included
	ReadingsAcked      int64 `json:"readings_acked"`      // repeats included

	BusTimeouts int64 `json:"bus_timeouts"`
	Errors      int64 `json:"errors"` // faults that really happened, here and below
	Late        int64 `json:"late"`
	Lost        int64 `json:"lost"`
	Duplicates  int64 `json:"duplicates"`
	Garbage     int64 `json:"garbage"`
	Offline     int64 `json:"offline"`

	LastError string `json:"last_error,omitempty"` // of the last attempt to connect that failed
}

// Snapshot reads all counters, not all at the same instant.
func (s *Stats) Snapshot() Counters {
	c := Counters{
		Connected: s.connected.Load(), Connects: s.connects.Load(), ConnectErrors: s.connectErrors.Load(),
		Commands: s.commands.Load(), BadCommands: s.badCommands.Load(), RefusedFull: s.refusedFull.Load(),
		Operations: s.operations.Load(), Acted: s.acted.Load(), Repeats: s.repeats.Load(), Expired: s.expired.Load(),
		Forgotten: s.forgotten.Load(), Results: s.results.Load(), Journal: s.journal.Load(), Published: s.published.Load(),
		Republished: s.republished.Load(), ReadingsJournalled: s.readingsJournalled.Load(), ReadingsAcked: s.readingsAcked.Load(),
		BusTimeouts: s.busTimeouts.Load(), Errors: s.errors.Load(), Late: s.late.Load(), Lost: s.lost.Load(),
		Duplicates: s.duplicates.Load(), Garbage: s.garbage.Load(), Offline: s.offline.Load(),
	}
	if e := s.lastError.Load(); e != nil {
		c.LastError = *e
	}
	return c
}
