package load

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit/history"
)

const (
	keptMost  = 200 // orders that a tenant remembers
	pollEvery = time.Second
	// overdue is how long after its deadline a client still looks at a command that has not ended: it is a failure by then.
	overdue = 15 * time.Second
)

// client posts commands, and follows each to its end.
type client struct {
	load   *Load
	tenant *tenant
	name   string
	dice   *rand.Rand // of run alone
	calls  *caller
	posted int
}

// order is one command as its client knows it.
type order struct {
	key     string // of idempotency
	id      string
	targets []meterread.DeviceID
	expires time.Time // the latest moment at which the deadline can be
	partly  bool      // not all targets are in it
	ended   bool
}

// plan is what a client has decided to do with a command: drawn at once, so that answers do not change what is drawn next.
type plan struct {
	repeat, misuse, cancel, again bool
	cancelAfter                   time.Duration
	devices                       []meterread.DeviceID
	body, other                   []byte // other asks for something else
	lasts                         time.Duration
}

func (c *client) run(issuing, following context.Context) {
	defer c.calls.close()
	places := make(chan struct{}, c.load.o.Open)
	for pause(issuing, time.Duration(c.dice.ExpFloat64()*float64(c.load.o.Think))) {
		if c.dice.Float64() < 0.15 {
			c.probe(issuing)
			continue
		}
		p := c.decide()
		c.posted++
		key := fmt.Sprintf("%s-%d-%d", c.name, c.load.o.Seed, c.posted)
		select {
		case places <- struct{}{}:
		case <-issuing.Done():
			return
		}
		c.load.following.Go(func() {
			c.live(following, key, p)
			<-places
		})
	}
}

var items = []meterread.Item{"1-0:1.8.0", "1-0:2.8.0", "1-0:32.7.0"}

func (c *client) decide() plan {
	p := plan{
		repeat: c.dice.Float64() < 0.15, misuse: c.dice.Float64() < 0.03, cancel: c.dice.Float64() < 0.08, again: c.dice.Float64() < 0.3,
		cancelAfter: time.Duration(c.dice.Float64() * float64(2*time.Second)),
	}
	o := simulator.Order{Kind: command.MeterRead, Mode: command.Realtime, Items: items[:1+c.dice.IntN(len(items))]}
	size, least, most := 1+c.dice.IntN(4), c.load.o.Deadline/4, c.load.o.Deadline/2
	if c.dice.Float64() < 0.4 {
		o.Mode, size, least, most = command.Async, 4+c.dice.IntN(20), c.load.o.Deadline/2, c.load.o.Deadline
	}
	if c.dice.Float64() < 0.1 {
		o.Kind, o.Items = command.MeterTimeSync, nil
	}
	p.devices = c.pick(size)
	p.lasts = max(3*time.Second, least+time.Duration(c.dice.Int64N(int64(most-least)+1))).Round(time.Second)
	o.Targets.DeviceIDs, o.TimeoutS = p.devices, p.lasts.Seconds()
	p.body, _ = json.Marshal(o) // it is ours
	o.TimeoutS++
	p.other, _ = json.Marshal(o)
	return p
}

func (c *client) pick(n int) []meterread.DeviceID {
	var all []meterread.DeviceID
	for _, s := range c.tenant.sites {
		all = append(all, s.Targets()...)
	}
	picked := make([]meterread.DeviceID, 0, n)
	for range min(n, len(all)) {
		if d := all[c.dice.IntN(len(all))]; !slices.Contains(picked, d) {
			picked = append(picked, d)
		}
	}
	return picked
}

func (c *client) add(kind history.Kind, phase history.Phase, id string, call history.Call) {
	call.Tenant = c.tenant.Name
	c.load.history.Add(history.Event{Actor: c.name, Kind: kind, Phase: phase, ID: id, Call: &call})
}

// live is the whole life of a command, seen from outside.
func (c *client) live(ctx context.Context, key string, p plan) {
	o := c.order(ctx, key, p)
	if o == nil {
		return
	}
	c.tenant.remember(o)
	if p.repeat {
		c.post(ctx, "/v1/commands", p.body, key, "", 1)
	}
	if p.misuse {
		c.post(ctx, "/v1/commands", p.other, key, "", 1)
	}
	cancelAt := time.Time{}
	if p.cancel {
		cancelAt = time.Now().Add(p.cancelAfter)
	}
	status := c.follow(ctx, o, cancelAt)
	c.tenant.end(o)
	if p.again && status != "" && status != string(command.StatusSucceeded) {
		c.retry(ctx, o, p)
	}
}

func (c *client) order(ctx context.Context, key string, p plan) *order {
	id := c.post(ctx, "/v1/commands", p.body, key, "", 0)
	if id == "" {
		return nil
	}
	return &order{key: key, id: id, targets: p.devices, expires: time.Now().Add(p.lasts)}
}

// retry tries the rest of a command again, as a new one.
func (c *client) retry(ctx context.Context, parent *order, p plan) {
	o := &order{key: parent.key + "-again", targets: parent.targets, partly: true}
	o.id = c.post(ctx, "/v1/commands/"+parent.id+"/retry", nil, o.key, parent.id, 0)
	if o.id == "" {
		return
	}
	o.expires = time.Now().Add(p.lasts)
	c.tenant.remember(o)
	c.follow(ctx, o, time.Time{})
	c.tenant.end(o)
}

// post posts until it is known what came of it, or as often as it may. It gives the id of the command that was accepted.
func (c *client) post(ctx context.Context, path string, body []byte, key, parent string, tries int) string {
	hash := sha256.Sum256(append([]byte(path+"\n"), body...))
	call := history.Call{BodyHash: hex.EncodeToString(hash[:8]), ParentID: parent}
	for n := 1; ; n++ {
		c.add(history.Post, history.Invoke, key, call)
		a := c.calls.do(ctx, http.MethodPost, path, body, key)
		told := a.call()
		told.BodyHash, told.ParentID, told.Leaks = call.BodyHash, call.ParentID, c.leaks(a.body)
		switch {
		case a.taken():
			var v struct {
				ID string `json:"id"`
			}
			_ = json.Unmarshal(a.body, &v) // without an id the checker complains
			told.CommandID, told.Replayed = v.ID, a.header.Get("Idempotent-Replayed") == "true"
			c.add(history.Post, history.OK, key, told)
			return v.ID
		case a.known():
			told.Error = string(a.body[:min(len(a.body), 300)])
			c.add(history.Post, history.Fail, key, told)
			return ""
		}
		told.Error = reason(a)
		c.add(history.Post, history.Unknown, key, told)
		if n == tries || !pause(ctx, a.later()) {
			return ""
		}
	}
}

func reason(a answer) string {
	if a.err != nil {
		return a.err.Error()
	}
	return string(a.body[:min(len(a.body), 200)])
}

// follow polls a command about once a second until it has ended, and twice more after that. It gives the status it ended
// with; "" when no end was seen in time.
func (c *client) follow(ctx context.Context, o *order, cancelAt time.Time) string {
	ended, looks := "", 0
	for pause(ctx, pollEvery*9/10+time.Duration(hash(o.id)%uint64(pollEvery/5))) {
		if !cancelAt.IsZero() && time.Now().After(cancelAt) {
			cancelAt = time.Time{}
			c.cancel(ctx, o.id)
		}
		status := c.poll(ctx, o.id)
		if status != "" && status != string(command.StatusRunning) {
			ended = status
			if looks++; looks > 2 {
				return ended
			}
		}
		if time.Now().After(o.expires.Add(overdue)) {
			return ended
		}
	}
	return ended
}

func (c *client) cancel(ctx context.Context, id string) {
	c.add(history.Cancel, history.Invoke, id, history.Call{})
	a := c.calls.do(ctx, http.MethodPost, "/v1/commands/"+id+"/cancel", nil, "")
	phase := history.Fail
	switch {
	case a.taken():
		phase = history.OK
	case !a.known():
		phase = history.Unknown
	}
	told := a.call()
	told.Leaks = c.leaks(a.body)
	c.add(history.Cancel, phase, id, told)
}

// poll writes down every state that it is shown.
func (c *client) poll(ctx context.Context, id string) (status string) {
	a := c.calls.do(ctx, http.MethodGet, "/v1/commands/"+id, nil, "")
	told := a.call()
	told.Leaks = c.leaks(a.body)
	if a.status != http.StatusOK {
		told.Error = reason(a)
		c.add(history.Poll, history.Fail, id, told)
		return ""
	}
	var v simulator.CommandView
	if err := json.Unmarshal(a.body, &v); err != nil {
		told.Error = err.Error()
		c.add(history.Poll, history.Fail, id, told)
		return ""
	}
	told.Shown, told.States = v.Status, map[string]string{}
	for _, o := range v.Operations {
		told.States[string(o.DeviceID)] = o.State
	}
	c.add(history.Poll, history.OK, id, told)
	return v.Status
}

// look polls commands that have ended, or may have, at a steady rate, whether the answers come or not.
func (c *client) look(ctx context.Context) {
	defer c.calls.close()
	for pause(ctx, time.Duration(float64(time.Second)/c.load.o.Looks)) {
		o, some := c.tenant.known(true, c.dice)
		if some {
			c.load.issuing.Go(func() { c.poll(ctx, o.id) })
		}
	}
}

// remember keeps the order for others to lie about and to probe for.
func (t *tenant) remember(o *order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.orders = append(t.orders, o)
	if len(t.orders) > keptMost {
		t.orders = slices.Delete(t.orders, 0, 1)
	}
}

func (t *tenant) end(o *order) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o.ended = true
}

// known is one of the orders that have ended, or of those that have not; false when there is none.
func (t *tenant) known(ended bool, dice *rand.Rand) (order, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var fit []*order
	for _, o := range t.orders {
		if o.ended == ended {
			fit = append(fit, o)
		}
	}
	if len(fit) == 0 {
		return order{}, false
	}
	return *fit[dice.IntN(len(fit))], true
}
