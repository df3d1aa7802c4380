//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"meterline/testkit"
	"meterline/testkit/packet"
	"meterline/testkit/swarm"
)

// load is what the load side did in a run, and could have done.
type load struct {
	Share   float64 `json:"share_of_a_core"`       // that it used
	Each    float64 `json:"cpu_us_each"`           // of what it did
	Rate    float64 `json:"per_second"`            // that it did
	Ceiling float64 `json:"ceiling_per_second"`    // of one core against a peer that does nothing; 0: it did next to nothing
	Bound   bool    `json:"load_may_be_the_limit"` // the figures may be those of the load
}

// The load is not the limit when it leaves a quarter of the one core that it needs, and could do half as much again.
const (
	mostShare     = 0.75
	leastHeadroom = 1.5
)

func (l load) share() string {
	if l.Rate == 0 {
		return ""
	}
	return fmt.Sprintf("%.0f %%", l.Share*100)
}

func (l load) headroom() string {
	if l.Ceiling == 0 || l.Rate == 0 {
		return ""
	}
	return short(l.Ceiling / l.Rate)
}

func (l load) bound() string {
	switch {
	case l.Rate == 0:
		return ""
	case l.Bound:
		return "**maybe**"
	}
	return "no"
}

// shape is what the load side does so many of: what its ceiling depends on.
type shape struct {
	kind              string // "": nothing that would have a ceiling
	window            int    // of uplinks in flight
	targets           int    // of a command
	request, response int    // bytes of HTTP
}

// The kinds of shapes.
const (
	connects  = "connects"
	publishes = "publishes"
	calls     = "calls"
	answers   = "answers"
	requests  = "requests"
)

// bound finds out whether the load may have been the limit. Each shape is tried against the null peer once.
func (b *bench) bound(ctx context.Context, f *finding) error {
	if f.did == 0 || f.spent.seconds == 0 {
		return nil
	}
	f.Load = load{Share: f.spent.load / f.spent.seconds, Each: f.spent.load * 1e6 / float64(f.did), Rate: float64(f.did) / f.spent.seconds}
	if f.shape.kind != "" {
		ceiling, known := b.ceilings[f.shape]
		if !known {
			var err error
			if ceiling, err = b.rig.ceiling(ctx, f.shape, b.small); err != nil {
				return fmt.Errorf("the ceiling of the load: %w", err)
			}
			b.ceilings[f.shape] = ceiling
		}
		f.Load.Ceiling = ceiling
	}
	f.Load.Bound = f.Load.Share > mostShare || f.Load.Ceiling > 0 && f.Load.Ceiling < leastHeadroom*f.Load.Rate
	return nil
}

const (
	nullDevices  = 100
	nullMessages = 100_000 // in all
	nullSmall    = 2_000
	dearer       = 10 // requests and connects are than messages
)

// ceiling is how many the load side does in a second of one core against a peer that does nothing, in a process of its own.
func (r *rig) ceiling(ctx context.Context, of shape, small bool) (float64, error) {
	n := nullMessages
	if small {
		n = nullSmall
	}
	each := max(1, n/nullDevices/max(1, of.targets))
	p, mqtt, web, err := r.nullPeer(of, each)
	if err != nil {
		return 0, err
	}
	defer p.Kill() //nolint:errcheck // its work is done
	var do func(context.Context) (int, error)
	switch of.kind {
	case requests:
		do, err = requesting(web, of, n/dearer)
	case connects:
		do, err = swarming(ctx, mqtt, of, max(1, each/dearer))
	default:
		do, err = swarming(ctx, mqtt, of, each)
	}
	if err != nil {
		return 0, errors.Join(err, p.Ended())
	}
	before, err := ownTime()
	if err != nil {
		return 0, err
	}
	did, err := do(ctx)
	if err != nil {
		return 0, errors.Join(err, p.Ended())
	}
	after, err := ownTime()
	return float64(did) / max(after-before, time.Microsecond).Seconds(), err
}

// nullPeer starts this program once more, as a peer that does nothing.
func (r *rig) nullPeer(of shape, each int) (p *testkit.App, mqtt, web string, err error) {
	if mqtt, err = testkit.FreeAddress(); err != nil {
		return nil, "", "", err
	}
	if web, err = testkit.FreeAddress(); err != nil {
		return nil, "", "", err
	}
	if of.kind != answers {
		each = 0
	}
	self, err := filepath.Abs("/proc/self/exe")
	if err != nil {
		return nil, "", "", err
	}
	p = testkit.NewApp(testkit.AppOptions{Name: "null", Dir: r.Dir, Listens: []string{mqtt, web},
		Argv: []string{self, nullMode, mqtt, web, strconv.Itoa(each), strconv.Itoa(of.targets), strconv.Itoa(of.response)}})
	return p, mqtt, web, p.Start()
}

// swarming gives what lets devices do their work at the null peer. What it gives closes them.
func swarming(ctx context.Context, addr string, of shape, each int) (func(context.Context) (int, error), error) {
	o := swarm.Options{Address: addr, Silent: of.kind == publishes || of.kind == connects}
	for i := range nullDevices {
		id := fmt.Sprintf("null-%05d", i)
		o.Accounts = append(o.Accounts, packet.Account{Client: id, User: id, Password: id})
	}
	s, err := swarm.New(o)
	if err != nil {
		return nil, err
	}
	if of.kind != answers { // who are sent commands as soon as they are there
		if err := s.Connect(ctx); err != nil {
			s.Close()
			return nil, err
		}
	}
	return func(ctx context.Context) (int, error) {
		defer s.Close()
		var err error
		switch of.kind {
		case connects:
			for range each {
				s.Leave()
				if err = s.Connect(ctx); err != nil {
					break
				}
			}
			return each * nullDevices, err
		case publishes:
			err = s.Publish(ctx, each, of.window)
		case calls:
			err = s.Call(ctx, packet.Account{Client: "null", User: "backend", Password: "null"}, each)
		case answers:
			want := int64(nullDevices * each * of.targets)
			err = s.Run(ctx, func() bool { return s.Counts().Acked >= want })
		}
		return int(s.Counts().Acked), err
	}, nil
}

// requesting gives what asks the null peer, one at a time by each of a few clients.
func requesting(addr string, of shape, n int) (func(context.Context) (int, error), error) {
	c, err := newClient(addr, "null")
	if err != nil {
		return nil, err
	}
	body := make([]byte, of.request)
	question := c.question(http.MethodPost, "/", body, "")
	return func(context.Context) (int, error) {
		defer c.close()
		for range n {
			if _, err := c.ask(question); err != nil {
				return 0, err
			}
		}
		return n, nil
	}, nil
}

// nullMode is the argument that makes this program the null peer.
const nullMode = "null"

// child is what this program does for itself in a process of its own: MQTT address, HTTP address, commands for each device, their
// targets, bytes of an answer by HTTP.
func child(ctx context.Context, args []string, stderr interface{ Write([]byte) (int, error) }) (status int, is bool) {
	if len(args) != 6 || args[0] != nullMode {
		return 0, false
	}
	each, err1 := strconv.Atoi(args[3])
	targets, err2 := strconv.Atoi(args[4])
	size, err3 := strconv.Atoi(args[5])
	err := errors.Join(err1, err2, err3)
	if err == nil {
		err = serveNull(ctx, args[1], args[2], &swarm.Null{Calls: each, Targets: targets}, size)
	}
	if err != nil {
		fmt.Fprintln(stderr, "null:", err)
		return 1, true
	}
	return 0, true
}

func serveNull(ctx context.Context, mqtt, web string, n *swarm.Null, size int) error {
	devices, err := net.Listen("tcp", mqtt)
	if err != nil {
		return err
	}
	users, err := net.Listen("tcp", web)
	if err != nil {
		return errors.Join(err, devices.Close())
	}
	answer := make([]byte, size)
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(answer)
	})}
	var served sync.WaitGroup
	served.Go(func() { _ = server.Serve(users) })
	err = n.Serve(ctx, devices)
	err = errors.Join(err, server.Close())
	served.Wait()
	return err
}
