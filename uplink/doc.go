// Package uplink is the durable log between the edge and the workers: gateways append what endpoints said, in batches,
// before they acknowledge it; the owner of a partition reads it in order and keeps its position in the record. [Redis]
// is streams that survive every process; [Memory] is for one process, where an entry is acknowledged only when it is in
// the record. One conformance suite holds both to the same promises.
package uplink

import (
	"errors"

	"meterline/command"
)

// ErrFull is what Append answers when a partition holds as many entries as it may: nothing is acknowledged until the
// workers have caught up.
var ErrFull = errors.New("the uplink log is full")

var (
	_ command.Log = (*Redis)(nil)
	_ command.Log = (*Memory)(nil)
)
