package main

import (
	"net/http"
	"testing"
	"time"

	"meterline/command"
	"meterline/meterread"
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
	pulse := testkit.StartPulse(t)
	server.Stop()
	const fresh = 5 * time.Second // a token is not asked for again: httpapi
	polls, over := 0, time.Now().Add(fresh+3*time.Second)
	testkit.Eventually(t, waitMost, func() bool {
		began := time.Now()
		var got command.View
		a := e.call("GET", path, "")
		if a.status == http.StatusServiceUnavailable {
			e.redisWasSlow("a poll is refused")
			return false
		}
		if a.status != http.StatusOK {
			t.Fatalf("poll %d: %d %s", polls, a.status, a.body)
		}
		if a.into(t, &got); got.ID != v.ID || got.Counts.Total != 1 {
			t.Fatalf("%+v", got)
		}
		if took := time.Since(began); took > pulse.Limit(2*time.Second) {
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
	testkit.Eventually(t, waitMost, func() bool { return e.call("GET", "/v1/devices", "").status == 200 }, "PostgreSQL to be used again")
	if _, err := e.db.Exec(`DELETE FROM tokens`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, waitMost, func() bool { return e.call("GET", path, "").status == http.StatusUnauthorized }, "the token to end")
}

// Deadlines go by while PostgreSQL is away: a result that was acknowledged before its deadline counts, one that came after it is
// late, and what nobody answered has expired. Until that can be known nobody is told anything, and it is written soon after.
func TestDeadlinesDuringAnOutage(t *testing.T) {
	server := testkit.PostgresPrivate(t)
	e := newEstateOn(t, "redis", server.URL, testWriter{t})
	var views []command.View
	var players []*player
	for _, d := range []string{"in-time", "too-late", "silent"} {
		players = append(players, e.play(d, e.direct(d), false))
	}
	for _, p := range players {
		views = append(views, e.issue(read(p.id, "realtime", `,"timeout_s":20`)))
	}
	for i, p := range players {
		if c, _ := p.next(waitMost); c.CommandID != views[i].ID {
			t.Fatalf("%s got %s", p.id, c.CommandID)
		}
	}
	server.Stop()
	players[0].up("result", result(views[0].ID, "in-time", "1", at))
	if left := time.Until(views[0].ExpiresAt); left < time.Second {
		t.Fatalf("only %s are left until the first deadline: the machine is too slow for this", left)
	}
	// What the backend knows of PostgreSQL's clock is off by as much as that took to answer, at most.
	<-time.After(time.Until(views[len(views)-1].ExpiresAt) + time.Second)
	for _, v := range views {
		if a := e.call("GET", "/v1/commands/"+string(v.ID), ""); a.status != http.StatusServiceUnavailable {
			t.Errorf("past the deadline nobody can know how it ended: status %d, %s", a.status, a.body)
		}
	}
	players[1].up("result", result(views[1].ID, "too-late", "1", at))
	server.Start()
	began := time.Now()
	want := []command.State{command.Succeeded, command.Expired, command.Expired}
	for i, v := range views {
		testkit.Eventually(t, waitMost, func() bool {
			var row string
			_ = e.db.QueryRow(`SELECT state FROM operations WHERE command_id = $1`, v.ID).Scan(&row) // it is just back
			return command.State(row) == want[i]
		}, "the row of "+players[i].id+" to be "+string(want[i]))
		if o := e.shown(v.ID); o.State != want[i] {
			t.Errorf("%s: the row says %s, and what is shown is %s", players[i].id, want[i], o.State)
		}
	}
	t.Logf("all is written %s after PostgreSQL came back", time.Since(began).Round(time.Millisecond))
	testkit.Eventually(t, waitMost, func() bool { return e.shown(views[1].ID).LateResultAt != nil }, "the operation notes a late result")
	for i, p := range players[:2] {
		var list struct{ Items []meterread.Reading }
		e.back("/v1/readings?device_id="+p.id).into(t, &list)
		if got := list.Items; len(got) != 1 || got[0].Late != (i == 1) {
			t.Errorf("%s: stored %+v", p.id, got)
		}
	}
}

// back waits until the backend answers the request again. It may say 503 for a moment after PostgreSQL came back: each
// connection that it had before is found to be broken only when it is used.
func (e *estate) back(path string) (a answer) {
	e.t.Helper()
	testkit.Eventually(e.t, waitMost, func() bool { a = e.call("GET", path, ""); return a.status != http.StatusServiceUnavailable }, "the backend to answer again")
	return a
}

// shown is operation, for when PostgreSQL is just back.
func (e *estate) shown(id command.ID) command.OperationView {
	e.t.Helper()
	var v command.View
	if e.back("/v1/commands/"+string(id)).into(e.t, &v); len(v.Operations) != 1 {
		e.t.Fatalf("%d operations in %+v", len(v.Operations), v)
	}
	return v.Operations[0]
}
