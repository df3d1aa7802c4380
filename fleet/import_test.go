package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"meterline/fleet"
)

const header = "id,name,kind,endpoint_id,route,tags,groups,enabled,secret\n"

func TestImportReadsBothFormatsAlike(t *testing.T) {
	secret := fleet.NewSecret()
	for name, c := range map[string]struct {
		format fleet.ImportFormat
		text   string
	}{
		"csv": {fleet.CSV, "\xef\xbb\xbfkind,id,name,endpoint_id,route,tags,groups,enabled,secret\r\n" +
			"ipc,ipc1,,,,,,," + secret + "\r\n" +
			`meter,m1,"Müller, 2nd floor",ipc1,"[{""bus"":""com1""}]","{""city"":""Graz""}",north; south,false,` + "\r\n" +
			"direct,d1,,,,,,,\r\n"},
		"ndjson": {fleet.NDJSON, "\xef\xbb\xbf" + `{"id":"ipc1","kind":"ipc","secret":"` + secret + `"}` + "\n\n" +
			`{"id":"m1","name":"Müller, 2nd floor","kind":"meter","endpoint_id":"ipc1","route":[{"bus":"com1"}],"tags":{"city":"Graz"},"groups":["north","south"],"enabled":false}` + "\r\n" +
			`{"id":"d1","kind":"direct"}`},
	} {
		t.Run(name, func(t *testing.T) {
			s, memory, _ := newFleet(t)
			got, err := s.Import(t.Context(), by(tenant), c.format, iotest.OneByteReader(strings.NewReader(c.text)))
			if err != nil || got != (fleet.ImportReport{Created: 3, WithoutCredentials: 1}) {
				t.Fatalf("got %+v, %v", got, err)
			}
			m, err := s.Device(t.Context(), tenant, "m1")
			if err != nil || m.Name != "Müller, 2nd floor" || m.EndpointID != "ipc1" || string(m.Route) != `[{"bus":"com1"}]` ||
				m.Tags["city"] != "Graz" || !slices.Equal(m.Groups, []string{"north", "south"}) || m.Enabled {
				t.Errorf("got %+v, %v", m, err)
			}
			if !(fleet.Credential{MAC: memory.MAC("ipc1")}).Matches(pepper, secret) {
				t.Error("the secret that was brought along does not match")
			}
			if memory.MAC("d1") != nil {
				t.Error("a secret came from nowhere")
			}
			if got, err = s.Import(t.Context(), by(tenant), c.format, strings.NewReader(c.text)); err != nil || got != (fleet.ImportReport{Updated: 3}) {
				t.Errorf("again: got %+v, %v", got, err)
			}
		})
	}
}

func TestImportNamesLinesAndDoesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		format fleet.ImportFormat
		text   string
		want   []string
	}{
		"csv empty":          {fleet.CSV, "", []string{"/1"}},
		"csv no id":          {fleet.CSV, "name,kind\n", []string{"/1/id"}},
		"csv unknown column": {fleet.CSV, "id,kind,colour,id\n", []string{"/1/colour", "/1/id"}},
		"csv cells": {fleet.CSV, header + "a b,,direct,,,,,,\ngood,,direct,,,,,,\nx,,meter,,{,,,,\ny,,direct,,,[1],,maybe,\nz,,direct\nw,,ipc,,,,,,short\n",
			[]string{"/2/id", "/4/route", "/5/tags", "/6", "/7/secret"}},
		"csv twice":       {fleet.CSV, header + "a,,direct,,,,,,\na,,direct,,,,,,\n", []string{"/3/id"}},
		"csv bad utf-8":   {fleet.CSV, header + "a,\xff,direct,,,,,,\n", []string{"/2/name"}},
		"csv open quote":  {fleet.CSV, header + "a,\"x,direct,,,,,,\n", []string{"/2"}},
		"csv endless row": {fleet.CSV, header + "a,\"" + strings.Repeat("x\n", 1<<20), []string{""}},
		"ndjson": {fleet.NDJSON, "{\"id\":\"a\",\"kind\":\"direct\"}\nnope\n{\"id\":7}\n{\"id\":\"b\",\"colour\":1}\n" +
			"{\"id\":\"c\",\"kind\":\"meter\",\"secret\":\"x\"}\n{\"id\":\"d\",\"kind\":\"ipc\"} {}\n[]\n{\"id\":\"\xff\"}\n",
			[]string{"/2", "/3/id", "/4/colour", "/5/endpoint_id", "/5/route", "/5/secret", "/6", "/7", "/8"}},
		"ndjson endless line": {fleet.NDJSON, "{\"id\":\"" + strings.Repeat("x", 1<<20), []string{"/1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := newFleet(t)
			_, err := s.Import(t.Context(), by(tenant), c.format, strings.NewReader(c.text))
			if got := pointers(t, err); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v (%v)", got, c.want, err)
			}
			if ds, err := s.Devices(t.Context(), tenant, fleet.DeviceFilter{}, "", 10); err != nil || len(ds) != 0 {
				t.Errorf("something was imported: %v, %v", ds, err)
			}
		})
	}
}

func TestImportStopsComplainingAt100(t *testing.T) {
	s, _, _ := newFleet(t)
	bad := &countingReader{r: strings.NewReader(header + strings.Repeat("?,,direct,,,,,,\n", 1<<20))}
	_, err := s.Import(t.Context(), by(tenant), fleet.CSV, bad)
	if got := pointers(t, err); len(got) != 100 || got[99] != "/101/id" {
		t.Errorf("got %d complaints, the last %s", len(got), got[len(got)-1])
	}
	if bad.n > 64<<10 {
		t.Errorf("read %d bytes before giving up", bad.n)
	}
}

type countingReader struct {
	r io.Reader
	n int
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

func TestImportPassesOnWhatTheReaderAndTheRegistrySay(t *testing.T) {
	s, memory, _ := newFleet(t)
	broken := errors.New("connection reset")
	for _, format := range []fleet.ImportFormat{fleet.CSV, fleet.NDJSON} {
		r := io.MultiReader(strings.NewReader(""), iotest.ErrReader(broken))
		if _, err := s.Import(t.Context(), by(tenant), format, r); !errors.Is(err, broken) {
			t.Errorf("%s: got %v", format, err)
		}
	}
	if _, _, err := s.CreateDevice(t.Context(), by("other"), fleet.NewDevice{ID: "taken", Kind: fleet.Direct}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Import(t.Context(), by(tenant), fleet.CSV, strings.NewReader(header+"a,,direct,,,,,,\ntaken,,direct,,,,,,\n"))
	if got := pointers(t, err); !slices.Equal(got, []string{"/3/id"}) {
		t.Errorf("got %v", got)
	}
	memory.Fail = errors.New("away")
	if _, err := s.Import(t.Context(), by(tenant), fleet.CSV, strings.NewReader(header)); !errors.Is(err, memory.Fail) {
		t.Errorf("got %v", err)
	}
}

// TestImportOfAHundredThousand holds the importer itself, without a database, to a bounded memory.
func TestImportOfAHundredThousand(t *testing.T) {
	const n = 100_000
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, header+"ipc,,ipc,,,,,,\n")
		for i := range n {
			fmt.Fprintf(w, "m-%06d,Meter %d,meter,ipc,\"[{\"\"bus\"\":\"\"com1\"\"},{\"\"meter\"\":\"\"%012d\"\"}]\",\"{\"\"city\"\":\"\"Graz\"\"}\",north,true,\n", i, i, i)
		}
		w.Close()
	}()
	registry := &counting{}
	s := fleet.NewService(fleet.Options{Registry: registry, Pepper: pepper})
	got, err := s.Import(t.Context(), by(tenant), fleet.CSV, r)
	if err != nil || got.Created != n+1 || got.WithoutCredentials != 1 {
		t.Fatalf("got %+v, %v", got, err)
	}
	if registry.heap > 64<<20 {
		t.Errorf("the heap grew to %d MiB", registry.heap>>20)
	}
}

// counting is a registry that only counts what is imported, and how large the heap gets.
type counting struct {
	fleet.Registry
	heap uint64
}

func (c *counting) Import(_ context.Context, _ fleet.Actor, next func() ([]fleet.ImportRow, error)) (done fleet.Imported, err error) {
	for batches := 0; ; batches++ {
		batch, err := next()
		if err != nil || batch == nil {
			return done, err
		}
		done.Created += len(batch)
		if batches%50 == 0 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			c.heap = max(c.heap, m.HeapInuse)
		}
	}
}
