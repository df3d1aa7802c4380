package meterread

import "time"

// DecodeReadings decodes an up/readings message. A reading that cannot be understood is in Bad; the others live. The
// error is a *Poison: nothing of the message could be used.
func DecodeReadings(payload []byte) (Readings, error) {
	object, p := open(payload)
	if p != nil {
		return Readings{}, p
	}
	var v, id, readings []byte
	for name, raw := range fields(object) {
		switch string(name) {
		case "v":
			v = raw
		case "message_id":
			id = raw
		case "readings":
			readings = raw
		}
	}
	if p := version(v); p != nil {
		return Readings{}, p
	}
	var m Readings
	if m.MessageID, p = messageID(id, CodeBadReading); p != nil {
		return Readings{}, p
	}
	n, p := count(readings, "readings", CodeBadReading)
	if p != nil {
		return Readings{}, p
	}
	m.Readings, m.Bad = decodeList(readings, n, func(r *Reading, device []byte) (p *Poison) {
		r.DeviceID, p = deviceIDOf(device)
		return p
	})
	return m, nil
}

// decodeList decodes an array of n readings, each alone. whose says whom a reading is of, given its raw device_id.
func decodeList(array []byte, n int, whose func(r *Reading, device []byte) *Poison) (good []Reading, bad []Bad) {
	good = make([]Reading, 0, n)
	for i, raw := range elements(array) {
		r, device, p := decodeReading(raw)
		if p == nil {
			p = whose(&r, device)
		}
		if p != nil {
			bad = append(bad, Bad{i, p.Code, p.Detail, raw})
			continue
		}
		good = append(good, r)
	}
	return good, bad
}

// decodeReading decodes one reading but for its device, whose raw id it returns.
func decodeReading(raw []byte) (r Reading, device []byte, p *Poison) {
	if !is(raw, '{') {
		return r, nil, &Poison{CodeBadReading, "the reading is not an object"}
	}
	var item, value, unit, readAt, quality []byte
	for name, raw := range fields(raw) {
		switch string(name) {
		case "device_id":
			device = raw
		case "item":
			item = raw
		case "value":
			value = raw
		case "unit":
			unit = raw
		case "read_at":
			readAt = raw
		case "quality":
			quality = raw
		}
	}
	code, _ := text(item)
	var err error
	if r.Item, err = ParseItem(code); err != nil {
		return r, device, &Poison{CodeItemUnknown, "item " + err.Error()}
	}
	if r.Value, p = decodeValue(value); p != nil {
		return r, device, p
	}
	if r.ReadAt, p = decodeReadAt(readAt); p != nil {
		return r, device, p
	}
	if r.Quality, p = decodeQuality(quality); p != nil {
		return r, device, p
	}
	var ok bool
	if r.Unit, ok = optionalText(unit); !ok || len(r.Unit) > maxUnit {
		return r, device, &Poison{CodeBadReading, "unit is not a string of at most 32 bytes"}
	}
	return r, device, nil
}

// decodeReadAt reads the meter's clock.
func decodeReadAt(raw []byte) (time.Time, *Poison) {
	if absent(raw) || string(raw) == `""` {
		return time.Time{}, &Poison{CodeReadAtMissing, "read_at is missing"}
	}
	at, ok := moment(raw)
	if !ok {
		return time.Time{}, &Poison{CodeReadAtInvalid, "read_at is not a time of RFC 3339 from 1970 to 9999"}
	}
	return at, nil
}

// decodeQuality reads the quality; an endpoint that names none means Valid.
func decodeQuality(raw []byte) (Quality, *Poison) {
	if absent(raw) || string(raw) == `""` {
		return Valid, nil
	}
	s, _ := text(raw)
	switch q := Quality(s); q {
	case Valid, Estimated, Suspect, Invalid:
		return q, nil
	}
	return "", &Poison{CodeQualityUnknown, "quality is not valid, estimated, suspect or invalid"}
}
