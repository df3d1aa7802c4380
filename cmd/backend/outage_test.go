package main

import (
	"net/http"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

// While PostgreSQL is away, polls of commands are answered from Redis, for those whose token was good shortly before;
// what needs the record is told to try again.
func TestPollsGoOnWithoutPostgreSQL(t *testing.T) {
	server := testkit.PostgresPrivate(t)
	e := newEstateOn(t, "redis", server.URL, testWriter{t})
	e.direct("d1")
	v := e.issue(read("d1", "async", `,"timeout_s":3600`))
	path := "/v1/commands/" + string(v.ID)
	e.must("GET", path, "")
	server.Stop()
	const fresh = 5 * time.Second // a token is not asked for again: httpapi
	polls, over := 0, time.Now().Add(fresh+3*time.Second)
	testkit.Eventually(t, 30*time.Second, func() bool {
		began := time.Now()
		var got command.View
		a := e.must("GET", path, "")
		if a.into(t, &got); got.ID != v.ID || got.Counts.Total != 1 {
			t.Fatalf("%+v", got)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("poll %d took %s", polls, took)
		}
		polls++
		return time.Now().After(over)
	}, "polls beyond the time that a token is not asked for again")
	if a := e.call("GET", "/v1/devices", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("a list of devices: status %d", a.status)
	}
	right := e.token
	e.token = "mtl_never-seen"
	if a := e.call("GET", path, ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("a token that was never seen: status %d", a.status)
	}
	e.token = right
	server.Start()
	testkit.Eventually(t, 30*time.Second, func() bool { return e.call("GET", "/v1/devices", "").status == 200 }, "PostgreSQL to be used again")
	if _, err := e.db.Exec(`DELETE FROM tokens`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, 20*time.Second, func() bool { return e.call("GET", path, "").status == http.StatusUnauthorized }, "the token to end")
}
