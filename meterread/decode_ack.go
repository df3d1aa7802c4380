package meterread

// DecodeAck decodes an up/ack message. It is understood as a whole or not at all: the error is a *Poison.
func DecodeAck(payload []byte) (Ack, error) {
	object, p := open(payload)
	if p != nil {
		return Ack{}, p
	}
	var v, command, devices, status, code, message []byte
	for name, raw := range fields(object) {
		switch string(name) {
		case "v":
			v = raw
		case "command_id":
			command = raw
		case "device_ids":
			devices = raw
		case "status":
			status = raw
		case "code":
			code = raw
		case "message":
			message = raw
		}
	}
	if p := version(v); p != nil {
		return Ack{}, p
	}
	var a Ack
	if a.CommandID, p = commandID(command, CodeBadAck); p != nil {
		return Ack{}, p
	}
	if a.DeviceIDs, p = deviceIDs(devices); p != nil {
		return Ack{}, p
	}
	if a.Status, _ = text(status); a.Status != StatusAccepted && a.Status != StatusProgress && a.Status != StatusRejected {
		return Ack{}, &Poison{CodeBadAck, "status is not accepted, progress or rejected"}
	}
	if a.Code, a.Message, p = reason(code, message, CodeBadAck); p != nil {
		return Ack{}, p
	}
	return a, nil
}

// deviceIDs reads the member device_ids: at least one.
func deviceIDs(raw []byte) ([]DeviceID, *Poison) {
	n, p := count(raw, "device_ids", CodeBadAck)
	if p != nil {
		return nil, p
	}
	if n == 0 {
		return nil, &Poison{CodeBadAck, "device_ids is empty"}
	}
	ids := make([]DeviceID, 0, n)
	for _, raw := range elements(raw) {
		id, p := deviceIDOf(raw)
		if p != nil {
			return nil, p
		}
		ids = append(ids, id)
	}
	return ids, nil
}
