package meterread

// DecodeEvent decodes an up/event message. It is understood as a whole or not at all: the error is a *Poison.
func DecodeEvent(payload []byte) (Event, error) {
	object, p := open(payload)
	if p != nil {
		return Event{}, p
	}
	var v, id, kind, device, at, data []byte
	for name, raw := range fields(object) {
		switch string(name) {
		case "v":
			v = raw
		case "message_id":
			id = raw
		case "type":
			kind = raw
		case "device_id":
			device = raw
		case "at":
			at = raw
		case "data":
			data = raw
		}
	}
	if p := version(v); p != nil {
		return Event{}, p
	}
	var e Event
	if e.MessageID, p = messageID(id, CodeBadEvent); p != nil {
		return Event{}, p
	}
	if e.Type, _ = text(kind); !isName(e.Type) {
		return Event{}, &Poison{CodeBadEvent, "type must be 1 to 64 of A-Z a-z 0-9 . _ -"}
	}
	if !absent(device) && string(device) != `""` {
		if e.DeviceID, p = deviceIDOf(device); p != nil {
			return Event{}, p
		}
	}
	if !absent(at) {
		var ok bool
		if e.At, ok = moment(at); !ok {
			return Event{}, &Poison{CodeBadEvent, "at is not a time of RFC 3339 from 1970 to 9999"}
		}
	}
	if !absent(data) {
		if !is(data, '{') {
			return Event{}, &Poison{CodeBadEvent, "data is not an object"}
		}
		if e.Data, p = storable(data); p != nil {
			return Event{}, p
		}
	}
	return e, nil
}
