package broker

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// security appends an event about what an endpoint did that it must not, or sheds it under pressure.
func (u *uplinks) security(endpoint fleet.DeviceID, epoch int64, kind string, data map[string]any) {
	payload, err := json.Marshal(map[string]any{
		"v": meterread.Version, "message_id": uuid.NewString(), "type": "security." + kind,
		"device_id": endpoint, "at": u.now().UTC().Format(time.RFC3339Nano), "data": data,
	})
	if err != nil {
		u.log.Error("cannot encode a security event", "error", err) // cannot happen: strings and numbers
		return
	}
	u.hint(endpoint, epoch, command.UplinkSecurity, payload)
}
