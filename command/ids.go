package command

import (
	"github.com/google/uuid"

	"meterline/meterread"
)

// DeviceID names a device in the whole installation.
type DeviceID = meterread.DeviceID

// IsID says whether s can be the id of a command, a dead letter or a decision: a UUID, as it is printed.
func IsID(s string) bool {
	id, err := uuid.Parse(s)
	return err == nil && id.String() == s
}
