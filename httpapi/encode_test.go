package httpapi

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"meterline/command"
	"meterline/meterread"
)

// A command is written the same, whether its operations come encoded or not.
func TestACommandIsWrittenTheSameWhenItsOperationsComeEncoded(t *testing.T) {
	at, parent := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), command.ID("c-0")
	o := command.Operation{CommandID: "c-1", DeviceID: "m-1", State: command.Failed, Version: 3, Error: &command.Failure{Code: "BUSY", Message: "<busy> & {}"}, UpdatedAt: at}
	other := o
	other.DeviceID, other.Error, other.State = "m-2", nil, command.Succeeded
	other.Readings = []meterread.Reading{{DeviceID: "m-2", Item: "1-0:1.8.0", Value: "1.5", Unit: "kWh", ReadAt: at}}
	v := command.View{ID: "c-1", ParentID: &parent, Status: command.StatusPartial, CreatedAt: at, Params: json.RawMessage(`{"operations":[]}`),
		Counts: command.Counts{Total: 2, Succeeded: 1, Failed: 1}, Errors: map[string]int{"BUSY": 1}}
	for n, ops := range [][]command.OperationView{{}, {o.View()}, {o.View(), other.View()}} {
		plain, encoded := v, v
		plain.Operations, encoded.Encoded = ops, []json.RawMessage{}
		for _, o := range ops {
			b, err := json.Marshal(o)
			if err != nil {
				t.Fatal(err)
			}
			encoded.Encoded = append(encoded.Encoded, b)
		}
		var want, got bytes.Buffer
		if err := huma.DefaultJSONFormat.Marshal(&want, showCommand(plain)); err != nil {
			t.Fatal(err)
		}
		if err := encode(&got, showCommand(encoded)); err != nil {
			t.Fatal(err)
		}
		var a, b any
		if err := json.Unmarshal(got.Bytes(), &a); err != nil {
			t.Fatalf("%d operations: %v in %s", n, err, got.String())
		}
		_ = json.Unmarshal(want.Bytes(), &b)
		one, _ := json.Marshal(a)
		two, _ := json.Marshal(b)
		if !bytes.Equal(one, two) {
			t.Errorf("%d operations:\n%s\nbecame\n%s", n, want.String(), got.String())
		}
	}
}
