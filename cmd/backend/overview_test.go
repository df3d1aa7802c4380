package main

import (
	"path/filepath"
	"testing"
	"time"

	"meterline/command"
	"meterline/store"
	"meterline/testkit"
)

// What the worker did shows in the overview: who is online, what is open, and by the minute what was read.
func TestOverviewShowsWhatGoesOn(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	h := openHouse(t, data, nil)
	p := h.play("d1", h.direct("d1"), false)
	h.direct("d2")
	waits := h.issue(`{"kind":"device.ping","targets":{"device_ids":["d2"]},"timeout_s":600}`)
	done := h.issue(`{"kind":"meter.read","targets":{"device_ids":["d1"]},"items":["1-0:1.8.0"],"timeout_s":600}`)
	p.next(waitMost)
	p.up("result", result(done.ID, "d1", "1", at))
	h.become(done.ID, command.Succeeded)
	var v command.Overview
	testkit.Eventually(t, waitMost, func() bool {
		h.must("GET", "/v1/overview", "").into(t, &v)
		return v.Endpoints.Online != nil && *v.Endpoints.Online == 1 && v.Operations.Open == 1
	}, "the overview to tell of it")
	if v.Endpoints.Total != 2 || v.Operations.Waiting != 1 || v.Operations.OldestWaitingAt == nil || !v.Operations.OldestWaitingAt.Equal(waits.CreatedAt) ||
		len(v.Minutes) != 60 || len(v.Gateways) != 1 || !v.Gateways[0].Alive || v.Gateways[0].ID != "standalone" || len(v.Backends) != 1 || !v.Backends[0].Alive ||
		v.Backends[0].Partitions != store.Partitions || v.Backlog != nil {
		t.Errorf("%+v", v)
	}
	h.stack.Unwind() // the counts are written at the end, too
	db, _, err := openFile(t.Context(), filepath.Join(data, "meterline.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := db.Standing(t.Context(), standaloneTenant, done.CreatedAt.Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	readings, succeeded := 0, 0
	for _, m := range s.Minutes {
		readings, succeeded = readings+m.Readings, succeeded+m.Succeeded
	}
	if readings != 1 || succeeded != 1 {
		t.Errorf("%+v", s.Minutes)
	}
}
