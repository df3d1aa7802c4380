package simulator

import (
	"errors"
	"testing"

	"meterline/command"
	"meterline/meterread"
)

const commandID = "0198f3a2-7c11-7b1e-9d6e-3f2a1c0b9e77"

// What the simulator publishes is what the gateway's side of the contract reads, to the last reading; its garbage is not.
func TestUplinksAreUnderstood(t *testing.T) {
	d := newTestDesk(t, plainBehaviour(), meterA)
	m := readCommand(commandID, nil, target(meterA), command.Target{DeviceID: "m-z"})
	m.ExpiresAt = noon.AddDate(0, 0, 1)
	accepted := d.take(&m)
	gone := d.run()
	message := resultMessage{V: 1, MessageID: newMessageID()}
	for i := range gone {
		message.Results = append(message.Results, &gone[i])
	}
	results, err := meterread.DecodeResults(encode(message))
	if err != nil || len(results.Results) != 2 || len(results.Bad) != 0 {
		t.Fatalf("%+v, %v", results, err)
	}
	for _, r := range results.Results {
		if r.CommandID != commandID || r.Attempt != 1 || !r.Final || len(r.Bad) != 0 {
			t.Errorf("%+v", r)
		}
		if r.DeviceID == "m-a" && len(r.Readings) != len(Items) || r.DeviceID == "m-z" && r.Code != codeNoSuchMeter {
			t.Errorf("%+v", r)
		}
	}
	ack, err := meterread.DecodeAck(encode(ackMessage{V: 1, CommandID: commandID, DeviceIDs: accepted, Status: meterread.StatusAccepted}))
	if err != nil || len(ack.DeviceIDs) != 1 || ack.Status != meterread.StatusAccepted {
		t.Errorf("%+v, %v", ack, err)
	}
	values, err := d.site.meters()[0].read(pushed, d.clock)
	if err != nil {
		t.Fatal(err)
	}
	readings, err := meterread.DecodeReadings(encode(readingsMessage{V: 1, MessageID: newMessageID(), Readings: owned("m-a", values)}))
	if err != nil || len(readings.Readings) != len(pushed) || len(readings.Bad) != 0 || readings.Readings[0].DeviceID != "m-a" ||
		!readings.Readings[0].ReadAt.Equal(values[0].ReadAt) || readings.Readings[0].Value != values[0].Value {
		t.Errorf("%+v, %v", readings, err)
	}
	event, err := meterread.DecodeEvent(encode(eventMessage{V: 1, MessageID: newMessageID(), Type: "hello", DeviceID: "m-a", At: noon,
		Data: map[string]any{"meters": 1}}))
	if err != nil || event.Type != "hello" {
		t.Errorf("%+v, %v", event, err)
	}
	for _, g := range garbage {
		var poison *meterread.Poison
		if _, err := meterread.DecodeResults(g); !errors.As(err, &poison) {
			t.Errorf("%q is understood: %v", g, err)
		}
	}
}
