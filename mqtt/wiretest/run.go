package wiretest

import (
	"context"
	"crypto/rand"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Version is a protocol level, as CONNECT says it.
type Version byte

// The versions there are cases for.
const (
	V3 Version = 4 // MQTT 3.1.1
	V5 Version = 5
)

func (v Version) String() string {
	if v == V5 {
		return "v5"
	}
	return "v3"
}

// Case is one thing that a broker must do, on connections, client ids and topics of its own.
type Case struct {
	Name      string // begins with the version, "v3/" or "v5/", and the part of the specification
	Version   Version
	Clauses   []string // of the specification of that version
	Malformed bool     // what is sent is against the specification
	Option    string   // what the specification does not ask for but others expect; "": it asks for it
	Deviates  string   // how mosquitto 2.0.11, the referee, is known to differ; "": it does not

	alone bool // subscribes to what all cases publish, so it comes after them
	run   func(*T)
}

// Target is a broker to be tried.
type Target struct {
	Address        string
	User, Password string        // of a client that may do everything; both "": none are sent
	Patience       time.Duration // the longest that one answer is waited for; 0: 3 s
	Parallel       int           // cases at a time; 0: 64

	// Devices gives out the id and the secret of an endpoint that no other running case has; only for Endpoints.
	Devices func() (id, secret string)
	// Backend is the password of user "backend", who sends commands to endpoints; "": cases that need it are skipped.
	Backend string
}

// Result is what became of a case.
type Result struct {
	Case
	Err     error // nil: the broker did what the case wants
	Skipped string
	Took    time.Duration
}

// Catalogue is the cases for plain MQTT clients, in the order of the specification.
func Catalogue() []Case {
	return expand(frameCases, connectCases, connectPropertyCases, connackCases, keepAliveCases, takeoverCases,
		publishCases, publishPropertyCases, qosCases, ackCases, redeliveryCases, orderCases, flowCases, packetSizeCases,
		aliasCases, subscribeCases, subscribeMalformedCases, unsubscribeCases, retainCases, willCases, willDelayCases,
		sessionCases, expiryCases, topicCases, sharedCases, disconnectCases, authCases, pahoCases)
}

// Endpoints is the cases for the narrower service that endpoints get; docs/mqtt.md says why it is narrower.
func Endpoints() []Case { return expand(endpointCases, endpointCommandCases, malformedEndpointCases) }

// entry is a case as it is written down: for one version or for both.
type entry struct {
	name   string
	v3, v5 string // clauses, with spaces between; "": not for this version
	bad    bool
	alone  bool
	option string
	run    func(*T)
}

func expand(lists ...[]entry) (cases []Case) {
	for _, list := range lists {
		for _, e := range list {
			for _, v := range []Version{V3, V5} {
				if clauses := map[Version]string{V3: e.v3, V5: e.v5}[v]; clauses != "" {
					cases = append(cases, Case{
						Name: v.String() + "/" + e.name, Version: v, Clauses: strings.Fields(clauses), Malformed: e.bad,
						Option: e.option, alone: e.alone, Deviates: deviations[v.String()+"/"+e.name], run: e.run,
					})
				}
			}
		}
	}
	return cases
}

// Select takes the cases whose name or a clause of theirs the expression finds.
func Select(cases []Case, expr *regexp.Regexp) (selected []Case) {
	for _, c := range cases {
		if expr.MatchString(c.Name + " " + strings.Join(c.Clauses, " ")) {
			selected = append(selected, c)
		}
	}
	return selected
}

// Run tries the cases side by side and returns what became of each, in their order. What has not begun when ctx is done
// fails.
func Run(ctx context.Context, target Target, cases []Case) []Result {
	if target.Patience == 0 {
		target.Patience = 3 * time.Second
	}
	if target.Parallel == 0 {
		target.Parallel = 64
	}
	results := make([]Result, len(cases))
	slots := make(chan struct{}, target.Parallel)
	run := strings.ToLower(rand.Text()[:5])
	var all sync.WaitGroup
	try := func(i int) { results[i] = cases[i].try(ctx, target, fmt.Sprintf("w%s%03x", run, i)) }
	for i, c := range cases {
		if c.alone {
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			try(i)
		})
	}
	all.Wait()
	for i, c := range cases {
		if c.alone {
			try(i)
		}
	}
	return results
}

// try runs one case.
func (c Case) try(ctx context.Context, target Target, unique string) (r Result) {
	r.Case = c
	if r.Err = ctx.Err(); r.Err != nil {
		return r
	}
	t := &T{ctx: ctx, target: target, v: c.Version, unique: unique, patience: target.Patience}
	began := time.Now()
	defer func() {
		r.Took = time.Since(began)
		switch p := recover().(type) {
		case nil:
		case failure:
			r.Err = p.err
		case skip:
			r.Skipped = string(p)
		default:
			panic(p)
		}
		t.clear()
	}()
	c.run(t)
	return r
}

// failure and skip end a case; they are thrown by its own goroutine only.
type (
	failure struct{ err error }
	skip    string
)

// T is one run of a case.
type T struct {
	ctx      context.Context
	target   Target
	v        Version
	unique   string // client ids and topics begin with it
	patience time.Duration
	conns    []*conn
	retained map[string]bool
	serial   int

	deviceID, secret string // of the endpoint that the clients are, if they are
}

func (t *T) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }
func (t *T) skip(format string, args ...any) { panic(skip(fmt.Sprintf(format, args...))) }

// topic is a topic of this case alone.
func (t *T) topic(name string) string {
	if t.deviceID != "" {
		return t.uplink("event")
	}
	return t.unique + "/" + name
}

// pause lets time go by where the case is about time, such as an expiry. It never stands in for waiting for something.
func (t *T) pause(d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
		t.fail("given up: %v", t.ctx.Err())
	}
}

// each runs f for every name, and says for which it failed.
func each[E any](t *T, what string, list []E, f func(E)) {
	for _, e := range list {
		func() {
			defer func() {
				switch p := recover().(type) {
				case nil:
				case failure:
					t.fail("%s %v: %w", what, e, p.err)
				default:
					panic(p)
				}
			}()
			f(e)
		}()
	}
}

// clear closes the connections of the case and takes back what it had retained.
func (t *T) clear() {
	for _, c := range t.conns {
		_ = c.nc.Close()
	}
	if len(t.retained) == 0 {
		return
	}
	defer func() { _ = recover() }() // the case has its result already
	c := t.client(as("clear"))
	for topic := range t.retained {
		c.write(message{topic: topic, retain: true}.encode(t.v))
	}
	c.ping()
	_ = c.nc.Close()
}

// slack is how much later than it must something may happen that is waited for: servers count in whole seconds, and machines
// are busy.
func (t *T) slack() time.Duration { return min(t.patience/2, 4*time.Second) }
