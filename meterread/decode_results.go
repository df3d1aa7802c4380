package meterread

import "strconv"

// DecodeResults decodes an up/result message. A result that cannot be understood is in Results.Bad, a reading that
// cannot be in the Bad of its result; the others live. The error is a *Poison: nothing of the message could be used.
func DecodeResults(payload []byte) (Results, error) {
	object, p := open(payload)
	if p != nil {
		return Results{}, p
	}
	var v, id, results []byte
	for name, raw := range fields(object) {
		switch string(name) {
		case "v":
			v = raw
		case "message_id":
			id = raw
		case "results":
			results = raw
		}
	}
	if p := version(v); p != nil {
		return Results{}, p
	}
	var m Results
	if m.MessageID, p = messageID(id, CodeBadResult); p != nil {
		return Results{}, p
	}
	n, p := count(results, "results", CodeBadResult)
	if p != nil {
		return Results{}, p
	}
	m.Results = make([]Result, 0, n)
	room := maxParts
	for i, raw := range elements(results) {
		r, p := decodeResult(raw, &room)
		if p != nil {
			m.Bad = append(m.Bad, Bad{i, p.Code, p.Detail, raw})
			continue
		}
		r.Index, r.Raw = i, raw
		m.Results = append(m.Results, r)
	}
	return m, nil
}

// decodeResult decodes one result but for its place. room is how many readings the message may still have.
func decodeResult(raw []byte, room *int) (Result, *Poison) {
	if !is(raw, '{') {
		return Result{}, &Poison{CodeBadResult, "the result is not an object"}
	}
	var command, device, attempt, status, final, code, message, readings []byte
	for name, raw := range fields(raw) {
		switch string(name) {
		case "command_id":
			command = raw
		case "device_id":
			device = raw
		case "attempt":
			attempt = raw
		case "status":
			status = raw
		case "final":
			final = raw
		case "code":
			code = raw
		case "message":
			message = raw
		case "readings":
			readings = raw
		}
	}
	var r Result
	var p *Poison
	if r.CommandID, p = commandID(command, CodeBadResult); p != nil {
		return r, p
	}
	if r.DeviceID, p = deviceIDOf(device); p != nil {
		return r, p
	}
	if r.Attempt, p = attemptOf(attempt); p != nil {
		return r, p
	}
	if r.Status, _ = text(status); r.Status != StatusOK && r.Status != StatusError && r.Status != StatusRejected {
		return r, &Poison{CodeBadResult, "status is not ok, error or rejected"}
	}
	if r.Final, p = finalOf(final); p != nil {
		return r, p
	}
	if r.Code, r.Message, p = reason(code, message, CodeBadResult); p != nil {
		return r, p
	}
	return r, r.decodeReadings(readings, room)
}

// decodeReadings fills in the readings of a result, which may be missing.
func (r *Result) decodeReadings(raw []byte, room *int) *Poison {
	if absent(raw) {
		return nil
	}
	n, p := count(raw, "readings", CodeBadResult)
	if p != nil {
		return p
	}
	if *room -= n; *room < 0 {
		return &Poison{CodeBadResult, "the message has more than 10000 readings"}
	}
	r.Readings, r.Bad = decodeList(raw, n, func(reading *Reading, _ []byte) *Poison {
		reading.DeviceID, reading.CommandID = r.DeviceID, r.CommandID
		return nil
	})
	return nil
}

// attemptOf reads the member attempt: an integer that is not negative and fits 32 bits, 0 when missing.
func attemptOf(raw []byte) (int, *Poison) {
	if absent(raw) {
		return 0, nil
	}
	n, err := strconv.ParseInt(string(raw), 10, 32)
	if err != nil || n < 0 {
		return 0, &Poison{CodeBadResult, "attempt is not a whole number from 0 on"}
	}
	return int(n), nil
}

// finalOf reads the member final: true when missing.
func finalOf(raw []byte) (bool, *Poison) {
	switch {
	case absent(raw) || raw[0] == 't':
		return true, nil
	case raw[0] == 'f':
		return false, nil
	}
	return false, &Poison{CodeBadResult, "final is not true or false"}
}

// reason reads the members code and message, which may be missing, cut to their bounds.
func reason(code, message []byte, bad string) (string, string, *Poison) {
	c, ok := optionalText(code)
	if !ok {
		return "", "", &Poison{bad, "code is not a string"}
	}
	m, ok := optionalText(message)
	if !ok {
		return "", "", &Poison{bad, "message is not a string"}
	}
	return cut(c, maxCode), cut(m, maxMessage), nil
}

// commandID reads the member command_id; code is for when it is not one.
func commandID(raw []byte, code string) (CommandID, *Poison) {
	s, _ := text(raw)
	id, err := ParseCommandID(s)
	if err != nil {
		return "", &Poison{code, "command_id " + err.Error()}
	}
	return id, nil
}

// deviceIDOf reads a device id.
func deviceIDOf(raw []byte) (DeviceID, *Poison) {
	s, _ := text(raw)
	id, err := ParseDeviceID(s)
	if err != nil {
		return "", &Poison{CodeDeviceInvalid, "device_id " + err.Error()}
	}
	return id, nil
}
