package fleet_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"meterline/fleet"
)

var (
	fuzzID      = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	fuzzPointer = regexp.MustCompile(`^(|/[0-9]+(/.*)?)$`)
)

// FuzzImport: an import is refused as a whole, with complaints that name lines, or what it brought is what devices may
// be, and brings the same when it is written as NDJSON.
func FuzzImport(f *testing.F) {
	secret := strings.Repeat("A", 43)
	for _, s := range []string{
		header, header + "ipc1,Name,ipc,,[],{},a;b,true," + secret + "\n", "\xef\xbb\xbfid,kind\r\nd1,direct\r\n", "id,kind\nd1,direct,x\n",
		header + "ipc,,ipc,,,,,,\n" + `m1,"Müller, 2",meter,ipc,"[{""bus"":""com1""}]","{""city"":""Graz""}",north; south,false,` + "\n",
		"id,colour\n", "", "id,kind,id\n", header + "a,\"x\n", header + "a b,\xff,direct,,,,,,\n", header + "x,,meter,,{,,,,\ny,,direct,,,[1],,maybe,\n",
		header + "a,,direct,,,,,,\na,,direct,,,,,,\n", header + "all,,direct,,,,,,\n", header + "d,,direct,,,,g g,,\n", header + "d,,direct,,,{\"\":\"x\"},,,short\n",
	} {
		f.Add(true, s)
	}
	for _, s := range []string{
		`{"id":"ipc1","kind":"ipc","secret":"` + secret + `"}` + "\n" + `{"id":"m1","kind":"meter","endpoint_id":"ipc1","route":[{"bus":"com1"}],"tags":{"a":"b"},"groups":["g"],"enabled":false}`,
		"{\"id\":\"a\",\"kind\":\"direct\"}\nnope\n{\"id\":7}\n{\"colour\":1}\n[]\n{\"id\":\"\xff\"}\n", "\xef\xbb\xbf{\"id\":\"d\",\"kind\":\"direct\"} {}", "\n\n", "null",
		`{"id":"m","kind":"meter","endpoint_id":"m","route":[{}]}`, `{"id":"m","kind":"x","tags":{"a":null,"":"\u0000"},"groups":["g","g"],"route":[1]}`,
		`{"id":"d","kind":"direct","route":null,"groups":null,"tags":null,"enabled":null,"name":"\u0007"}`, `{"ID":"d","Kind":"direct"}`,
	} {
		f.Add(false, s)
	}
	for _, member := range []string{
		`"name":"` + strings.Repeat("n", 201) + `"`, `"route":[{"a":"` + strings.Repeat("r", 4096) + `"}]`, `"route":{}`, `"route":[1]`, `"route":[{}]`,
		`"tags":{"` + strings.Repeat("k", 65) + `":"x"}`, `"tags":{"k":"` + strings.Repeat("v", 257) + `"}`, `"groups":["a b"]`, `"groups":["g","g"]`,
		`"tags":{` + fuzzMany(`"%d":""`) + `}`, `"groups":[` + fuzzMany(`"%d"`) + `]`, `"endpoint_id":"e"`, `"secret":"` + secret + `"`,
		`"kind":"meter","endpoint_id":"a b"`, `"kind":"meter"`, `"kind":"meter","endpoint_id":"d","route":[{"a":1}]`, `"kind":"meter","endpoint_id":"e","secret":"x"`,
	} {
		f.Add(false, `{"id":"d","kind":"direct",`+member+`}`)
	}
	f.Add(false, `{"id":"d","kind":"direct"}`+"\n"+`{"id":"d","kind":"direct"}`)
	f.Add(false, `{"id":"`+strings.Repeat("x", 70_000)+`"}`)
	f.Add(true, header+`a,"`+strings.Repeat("x\n", 40_000)+`",direct,,,,,,`)
	f.Fuzz(func(t *testing.T, asCSV bool, text string) {
		format := fleet.NDJSON
		if asCSV {
			format = fleet.CSV
		}
		s, memory, _ := newFleet(t)
		report, err := s.Import(t.Context(), by(tenant), format, strings.NewReader(text))
		devices, listed := s.Devices(t.Context(), tenant, fleet.DeviceFilter{}, "", 1_000)
		if listed != nil {
			t.Fatal(listed)
		}
		if err != nil {
			fuzzComplaints(t, err)
			if len(devices) > 0 {
				t.Errorf("refused, but %d devices are there", len(devices))
			}
			return
		}
		if report.Created != len(devices) && len(devices) < 1_000 || report.Updated != 0 {
			t.Errorf("%+v, but %d devices are there", report, len(devices))
		}
		var again strings.Builder
		for _, d := range devices {
			fuzzDevice(t, d)
			line, err := json.Marshal(map[string]any{"id": d.ID, "name": d.Name, "kind": d.Kind, "endpoint_id": d.EndpointID,
				"route": d.Route, "tags": d.Tags, "groups": d.Groups, "enabled": d.Enabled})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&again, "%s\n", line)
			if mac := memory.MAC(d.ID); mac != nil && d.Kind == fleet.Meter {
				t.Errorf("%s is a meter and has a secret", d.ID)
			}
		}
		if report, err := s.Import(t.Context(), by(tenant), fleet.NDJSON, strings.NewReader(again.String())); err != nil || report.Updated != len(devices) || report.Created != 0 {
			t.Errorf("%s\nonce more: %+v, %v", again.String(), report, err)
		}
	})
}

// fuzzMany is a list of one more than a device may have.
func fuzzMany(format string) string {
	var all []string
	for i := range 65 {
		all = append(all, fmt.Sprintf(format, i))
	}
	return strings.Join(all, ",")
}

func fuzzComplaints(t *testing.T, err error) {
	t.Helper()
	wrong, ok := errors.AsType[*fleet.Invalid](err)
	if !ok || len(wrong.Fields) == 0 || len(wrong.Fields) > 100 {
		t.Fatalf("refused by %v", err)
	}
	for _, f := range wrong.Fields {
		if !fuzzPointer.MatchString(strings.ReplaceAll(f.Pointer, "\n", "")) || f.Detail == "" {
			t.Errorf("the complaint %q: %q", f.Pointer, f.Detail)
		}
	}
}

func fuzzDevice(t *testing.T, d fleet.Device) {
	t.Helper()
	text := func(s string, most int) bool {
		return utf8.ValidString(s) && utf8.RuneCountInString(s) <= most && !strings.ContainsAny(s, "\x00\n\r\x7f")
	}
	good := fuzzID.MatchString(string(d.ID)) && fuzzID.MatchString(string(d.EndpointID)) && text(d.Name, 200) && len(d.Tags) <= 64 && len(d.Groups) <= 64
	switch d.Kind {
	case fleet.Direct, fleet.IPC:
		good = good && d.EndpointID == d.ID
	case fleet.Meter:
		good = good && d.EndpointID != d.ID && string(d.Route) != "[]"
	default:
		good = false
	}
	for k, v := range d.Tags {
		good = good && k != "" && text(k, 64) && text(v, 256)
	}
	for _, g := range d.Groups {
		good = good && fuzzID.MatchString(g)
	}
	var hops []map[string]any
	if !good || json.Unmarshal(d.Route, &hops) != nil || len(d.Route) > 4096 {
		t.Errorf("taken as a device: %+v", d)
	}
}
