package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"meterline/cmd/launch"
	"meterline/command"
	"meterline/fleet"
	"meterline/state"
	"meterline/store"
	"meterline/testkit"
)

// office is the API over PostgreSQL and Redis without any worker: nobody writes down that a deadline has passed.
type office struct {
	*house
	db   *store.DB
	live *state.Redis
}

func newOffice(t *testing.T) *office {
	t.Helper()
	logger := slog.New(slog.NewTextHandler(testWriter{t}, nil))
	url := testkit.Postgres(t)
	ok(t, store.Migrate(t.Context(), store.Options{URL: url}))
	db, settings, err := launch.Store(t.Context(), url)
	ok(t, err)
	client, err := launch.Redis(t.Context(), testkit.RedisURL(t))
	ok(t, err)
	listener, err := launch.Listen(t.Context(), "127.0.0.1:0")
	ok(t, err)
	stack := launch.NewStack(logger, grace)
	t.Cleanup(stack.Unwind)
	stack.Close("record", db.Close)
	stack.Close("redis", client.Close)
	live := state.NewRedis(client)
	c := &core{db: db, settings: settings, live: live, limits: limits{MaxOpen: command.DefaultMaxOpen}, logger: logger, metrics: launch.Metrics()}
	service, err := c.work(t.Context(), stack, false)
	ok(t, err)
	ok(t, c.serve(stack, service, listener))
	token, err := grant(t.Context(), db, settings, standaloneTenant, "test", []fleet.Scope{fleet.Admin})
	ok(t, err)
	return &office{house: &house{&standalone{http: "http://" + listener.Addr().String(), token: token}, t}, db: db, live: live}
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// move does what a worker would do to the operation of a device, and carries it into the live state.
func (o *office) move(id command.ID, device string, steps ...func(*command.Operation, time.Time) error) {
	o.t.Helper()
	fence, _, err := o.db.Hold(context.Background(), "w", time.Minute, 0)
	ok(o.t, err)
	k := command.Key{CommandID: id, DeviceID: command.DeviceID(device)}
	done, err := o.db.Change(context.Background(), fence, command.Need{Operations: []command.Key{k}}, func(x *command.Tx) error {
		for _, step := range steps {
			if err := step(x.Operations[k], x.Now); err != nil {
				return err
			}
		}
		return nil
	})
	ok(o.t, err)
	ok(o.t, o.live.Apply(context.Background(), done.Changes))
}

func sent(o *command.Operation, now time.Time) error {
	return o.Claim(now, command.Session{Endpoint: o.EndpointID, Gateway: "gw", Incarnation: "1", Epoch: 1}, "m", time.Minute)
}

func delivered(o *command.Operation, now time.Time) error { return o.Deliver(now, time.Minute) }

func accepted(o *command.Operation, now time.Time) error { return o.Accept(now, time.Minute) }

// follow reads the event stream to its end: what each device was last told to be, and the command at the end.
func (o *office) follow(id command.ID) (last map[string]command.OperationView, end command.View, err error) {
	ctx, stop := context.WithTimeout(context.Background(), waitMost)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, o.http+"/v1/commands/"+string(id)+"/events", nil)
	if err != nil {
		return nil, end, err
	}
	request.Header.Set("Authorization", "Bearer "+o.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, end, err
	}
	defer response.Body.Close()
	last = map[string]command.OperationView{}
	lines, ending, newest := bufio.NewScanner(response.Body), false, int64(-1)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case field == "id":
			var n int64
			if _, err := fmt.Sscan(value, &n); err != nil || n <= newest {
				return nil, end, fmt.Errorf("event %s after %d", value, newest)
			}
			newest = n
		case field == "event":
			ending = value == "end"
		case field == "data" && ending:
			return last, end, json.Unmarshal([]byte(value), &end)
		case field == "data":
			var one command.OperationView
			if err := json.Unmarshal([]byte(value), &one); err != nil {
				return nil, end, err
			}
			last[string(one.DeviceID)] = one
		}
	}
	return nil, end, fmt.Errorf("the stream of %s broke: %w", id, io.ErrUnexpectedEOF)
}

var openDevices = []string{"d-queued", "d-sent", "d-delivered", "d-accepted"}

// Whatever shows states shows expired from the deadline on, though no worker has written it down, and no filter says
// anything else than what is shown.
func TestExpiryIsShownBeforeItIsWritten(t *testing.T) {
	t.Parallel()
	o := newOffice(t)
	for _, d := range openDevices {
		o.direct(d)
	}
	// The deadline leaves time for what is to be before it on a busy machine.
	v := o.issue(`{"kind":"meter.read","mode":"realtime","items":["1-0:1.8.0"],"timeout_s":20,"targets":{"device_ids":["` + strings.Join(openDevices, `","`) + `"]}}`)
	o.move(v.ID, "d-sent", sent)
	o.move(v.ID, "d-delivered", sent, delivered)
	o.move(v.ID, "d-accepted", sent, delivered, accepted)
	var before command.View
	o.must("GET", "/v1/commands/"+string(v.ID), "").into(t, &before)
	if n := before.Counts; n.Queued != 1 || n.Sent != 1 || n.Delivered != 1 || n.Accepted != 1 {
		t.Fatalf("before the deadline: %+v", n)
	}

	type told struct {
		view  command.View
		last  map[string]command.OperationView
		err   error
		after time.Duration
	}
	pulse := testkit.StartPulse(t)
	waited, watched := make(chan told, 1), make(chan told, 1)
	go func() {
		var r told
		a := o.call("GET", "/v1/commands/"+string(v.ID)+"?wait=60", "")
		r.err, r.after = json.Unmarshal(a.body, &r.view), time.Since(v.ExpiresAt)
		waited <- r
	}()
	go func() {
		var r told
		r.last, r.view, r.err = o.follow(v.ID)
		r.after = time.Since(v.ExpiresAt)
		watched <- r
	}()
	passed := func(d time.Duration) { // the deadline is what is waited for
		<-time.After(time.Until(v.ExpiresAt) + d)
	}
	passed(5 * time.Millisecond)
	o.allExpired(v.ID)
	for name, c := range map[string]chan told{"wait": waited, "events": watched} {
		r := <-c
		if r.err != nil || r.view.Status != command.StatusExpired || r.after < 0 || r.after > pulse.Limit(5*time.Second) {
			t.Errorf("%s: %v, %+v, %v after the deadline", name, r.err, r.view.Status, r.after)
		}
		for _, d := range openDevices {
			if name == "events" && r.last[d].State != command.Expired {
				t.Errorf("events: %s is %q", d, r.last[d].State)
			}
		}
	}
	passed(time.Second)
	o.allExpired(v.ID)
	if !testing.Short() {
		passed(10 * time.Second)
		o.allExpired(v.ID)
	}
	o.endsOfExpired(v.ID)
}

// allExpired asks everything that shows states.
func (o *office) allExpired(id command.ID) {
	o.t.Helper()
	whole := func(name string, v command.View, ops map[string]command.OperationView) {
		o.t.Helper()
		if n := v.Counts; v.Status != command.StatusExpired || n.Expired != 4 || n.Open() != 0 || v.FinishedAt == nil {
			o.t.Errorf("%s: %s %+v finished %v", name, v.Status, n, v.FinishedAt)
		}
		for d, one := range ops {
			if one.State != command.Expired {
				o.t.Errorf("%s: %s is %s", name, d, one.State)
			}
		}
	}
	var v command.View
	o.must("GET", "/v1/commands/"+string(id), "").into(o.t, &v)
	shown := map[string]command.OperationView{}
	for _, one := range v.Operations {
		shown[string(one.DeviceID)] = one
	}
	whole("poll", v, shown)
	last, end, err := o.follow(id)
	ok(o.t, err)
	whole("events", end, last)
	for name, n := range map[string]int{"poll": len(shown), "events": len(last)} {
		if n != 4 {
			o.t.Errorf("%s: %d operations", name, n)
		}
	}
	o.listsAgree(id)
	var open int
	open, err = o.db.OpenOperations(context.Background(), standaloneTenant)
	if err != nil || open != 0 {
		o.t.Errorf("%d open operations, %v", open, err)
	}
	k := command.Key{CommandID: id, DeviceID: "d-queued"}
	_, err = o.db.Change(context.Background(), nil, command.Need{Operations: []command.Key{k}}, func(x *command.Tx) error {
		if s := x.Operations[k].State; s != command.Queued {
			o.t.Errorf("the row says %s: it is not what this test is about", s)
		}
		return nil
	})
	ok(o.t, err)
}

func (o *office) listsAgree(id command.ID) {
	o.t.Helper()
	count := func(path string, want int) {
		o.t.Helper()
		var list struct {
			Items []struct {
				State  command.State  `json:"state"`
				Status command.Status `json:"status"`
				Moves  []command.Move `json:"moves"`
			}
		}
		o.must("GET", path, "").into(o.t, &list)
		if len(list.Items) != want {
			o.t.Errorf("%s: %d, want %d", path, len(list.Items), want)
		}
		for _, one := range list.Items {
			if string(one.State)+string(one.Status) != "expired" {
				o.t.Errorf("%s: %+v", path, one)
			}
			if n := len(one.Moves); strings.HasPrefix(path, "/v1/operations") && one.Moves[n-1].State != command.Expired {
				o.t.Errorf("%s: the last move is %+v", path, one.Moves[n-1])
			}
		}
	}
	of := "/v1/commands/" + string(id) + "/operations"
	for _, path := range []string{of, "/v1/operations", "/v1/operations?command_id=" + string(id)} {
		count(path, 4)
	}
	count("/v1/operations?device_id=d-sent", 1)
	count("/v1/operations?endpoint_id=d-accepted", 1)
	count("/v1/commands", 1)
	count("/v1/commands?status=expired", 1)
	count("/v1/commands?status=running", 0)
	for _, s := range command.States {
		all, one := 0, 0
		if s == command.Expired {
			all, one = 4, 1
		}
		count(of+"?state="+string(s), all)
		count("/v1/operations?state="+string(s), all)
		count("/v1/operations?command_id="+string(id)+"&state="+string(s), all)
		count("/v1/operations?device_id=d-sent&state="+string(s), one)
		count("/v1/operations?endpoint_id=d-queued&state="+string(s), one)
		count("/v1/commands?state="+string(s), one)
		count("/v1/commands?device_id=d-delivered&state="+string(s), one)
		csv := string(o.must("GET", of+"?state="+string(s), "", "Accept", "text/csv").body)
		if lines := strings.Count(strings.TrimSpace(csv), "\n"); lines != all || strings.Count(csv, "expired") != all {
			o.t.Errorf("CSV of %s: %s", s, csv)
		}
	}
}

// endsOfExpired says what cancelling and retrying do to a command that is over.
func (o *office) endsOfExpired(id command.ID) {
	o.t.Helper()
	var v command.View
	o.must("POST", "/v1/commands/"+string(id)+"/cancel", "").into(o.t, &v)
	if v.Status != command.StatusExpired || v.Counts.Expired != 4 {
		o.t.Errorf("cancelled: %s %+v", v.Status, v.Counts)
	}
	known, err := o.db.Commands(context.Background(), []command.ID{id})
	if c := known[id]; err != nil || !c.CancelledAt.IsZero() || !c.ShownExpired {
		o.t.Errorf("the record says cancelled at %v, shown %v, %v", c.CancelledAt, c.ShownExpired, err)
	}
	var again command.View
	o.must("POST", "/v1/commands/"+string(id)+"/retry", "").into(o.t, &again)
	if again.ParentID == nil || *again.ParentID != id || again.Counts.Total != 4 {
		o.t.Errorf("retried: %+v", again)
	}
}
