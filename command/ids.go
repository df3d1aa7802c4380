package command

import "meterline/meterread"

// DeviceID names a device in the whole installation.
type DeviceID = meterread.DeviceID
