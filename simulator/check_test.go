package simulator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"meterline/meterread"
)

// record is a fake GET /v1/readings over rows, two to a page.
type record struct {
	rows  []ReadingView
	late  *ReadingView // appears from the second look on
	asked atomic.Int64
}

func (rec *record) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	from, err1 := time.Parse(time.RFC3339Nano, q.Get("from"))
	to, err2 := time.Parse(time.RFC3339Nano, q.Get("to"))
	if r.URL.Path != "/v1/readings" || r.Header.Get("Authorization") != "Bearer secret" || errors.Join(err1, err2) != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	rows := rec.rows
	if q.Get("cursor") == "" {
		rec.asked.Add(1)
	}
	if rec.late != nil && rec.asked.Load() > 1 {
		rows = append(rows, *rec.late)
	}
	var page struct {
		Items      []ReadingView `json:"items"`
		NextCursor *string       `json:"next_cursor"`
	}
	start, _ := strconv.Atoi(q.Get("cursor"))
	var match []ReadingView
	for _, row := range rows {
		if string(row.DeviceID) == q.Get("device_id") && !row.ReadAt.Before(from) && row.ReadAt.Before(to) {
			match = append(match, row)
		}
	}
	page.Items = match[start:min(start+2, len(match))]
	if start+2 < len(match) {
		next := strconv.Itoa(start + 2)
		page.NextCursor = &next
	}
	_ = json.NewEncoder(w).Encode(page)
}

func row(i int, value string) ReadingView {
	return ReadingView{DeviceID: "m-1", Item: "1-0:1.8.0", Value: value, ReadAt: noon.Add(time.Duration(i) * time.Second)}
}

// sentFive is a ledger of five readings, four of them acknowledged, and the rows that a record without fault has.
func sentFive() (*Ledger, []ReadingView) {
	l := NewLedger()
	var rows []ReadingView
	for i := range 5 {
		v := row(i, fmt.Sprintf("%d.50", i))
		r := reading{DeviceID: v.DeviceID, Item: v.Item, Value: v.Value, ReadAt: v.ReadAt}
		l.journalled(r)
		if i < 4 {
			l.acked(r)
			l.acked(r) // twice published, twice acknowledged
		}
		l.journalled(r) // a repeat
		rows = append(rows, v)
	}
	return l, rows
}

func TestCheckFindsLossesAndDuplicates(t *testing.T) {
	cases := []struct {
		name               string
		spoil              func([]ReadingView) []ReadingView
		losses, duplicates int
	}{
		{"all there", func(r []ReadingView) []ReadingView { return r }, 0, 0},
		{"one without PUBACK missing", func(r []ReadingView) []ReadingView { return r[:4] }, 0, 0},
		{"one missing", func(r []ReadingView) []ReadingView { return r[1:] }, 1, 0},
		{"all missing", func([]ReadingView) []ReadingView { return nil }, 4, 0},
		{"one twice", func(r []ReadingView) []ReadingView { return append(r, r[2]) }, 0, 1},
		{"one without PUBACK twice", func(r []ReadingView) []ReadingView { return append(r, r[4]) }, 0, 1},
		{"a second revision", func(r []ReadingView) []ReadingView { return append(r, row(2, "9")) }, 0, 1},
		{"another value", func(r []ReadingView) []ReadingView { r[1].Value = "1.5"; return r }, 1, 0},
		{"never sent", func(r []ReadingView) []ReadingView { return append(r, row(60, "60")) }, 0, 1},
		{"one missing, one twice", func(r []ReadingView) []ReadingView { return append(r[1:], r[2]) }, 1, 1},
		{"another run's, before", func(r []ReadingView) []ReadingView { return append(r, row(-1, "0")) }, 0, 0},
		{"another device's", func(r []ReadingView) []ReadingView { x := r[0]; x.DeviceID = "m-2"; return append(r, x) }, 0, 0},
	}
	for _, c := range cases {
		l, rows := sentFive()
		rec := &record{rows: c.spoil(rows)}
		server := httptest.NewServer(rec)
		api := NewAPI(server.URL+"/", "secret")
		v, err := l.Check(context.Background(), api, 0)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if v.Losses != c.losses || v.Duplicates != c.duplicates || v.Checked != 4 || v.Devices != 1 || v.Clean() != (c.losses+c.duplicates == 0) {
			t.Errorf("%s: %+v, want %d losses, %d duplicates", c.name, v, c.losses, c.duplicates)
		}
		if len(v.Examples) != c.losses+c.duplicates {
			t.Errorf("%s: %d examples", c.name, len(v.Examples))
		}
		api.Close()
		server.Close()
	}
}

func TestCheckWaitsForWhatIsStoredLater(t *testing.T) {
	l, rows := sentFive()
	rec := &record{rows: rows[1:], late: &rows[0]}
	server := httptest.NewServer(rec)
	defer server.Close()
	api := NewAPI(server.URL, "secret")
	defer api.Close()
	v, err := l.Check(context.Background(), api, patience)
	if err != nil || !v.Clean() || v.Rounds != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestCheckThatCannotBeMadeIsAnError(t *testing.T) {
	l, _ := sentFive()
	server := httptest.NewServer(&record{})
	defer server.Close()
	api := NewAPI(server.URL, "wrong token")
	defer api.Close()
	_, err := l.Check(context.Background(), api, 0)
	var p *Problem
	if !errors.As(err, &p) || p.Status != http.StatusBadRequest || !strings.Contains(err.Error(), "m-1") {
		t.Errorf("%v", err)
	}
}

func TestExamplesAreFew(t *testing.T) {
	l := NewLedger()
	for d := range 7 {
		for i := range 5 {
			r := reading{DeviceID: meterread.DeviceID(fmt.Sprint("m-", d)), Item: "1-0:1.8.0", Value: "1", ReadAt: noon.Add(time.Duration(i))}
			r.ReadAt = noon.Add(time.Duration(i) * time.Second)
			l.journalled(r)
			l.acked(r)
		}
	}
	server := httptest.NewServer(&record{})
	defer server.Close()
	api := NewAPI(server.URL, "secret")
	defer api.Close()
	v, err := l.Check(context.Background(), api, 0)
	if err != nil || v.Losses != 35 || v.Devices != 7 || len(v.Examples) != maxExamples {
		t.Errorf("%+v, %v", v, err)
	}
}
