package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit/history"
)

// Load is devices and clients at work.
type Load struct {
	o        Options
	history  *history.Writer
	recorder *recorder
	fleet    *simulator.Fleet
	tenants  []*tenant

	stopIssuing context.CancelFunc // no more commands, lies and cuts
	giveUp      context.CancelFunc // of clients that still wait for an end
	hangUp      context.CancelFunc // of the fleet
	issuing     sync.WaitGroup
	following   sync.WaitGroup
	connected   sync.WaitGroup
}

// tenant is what the actors of one tenant share.
type tenant struct {
	Tenant
	sites  []simulator.Site
	others []*tenant

	mu     sync.Mutex
	orders []*order // the latest, of which some have ended
}

// Start registers the devices, connects them and lets clients begin. It returns when all devices have been connected once;
// ctx bounds that alone. The load goes on until Stop.
func Start(ctx context.Context, o Options) (*Load, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	l := &Load{o: o}
	if l.history, err = history.Create(o.History, "load", o.Start); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start load: %w", err), l.history.Close())
	}
	return l, nil
}

func (l *Load) start(ctx context.Context) error {
	if err := l.install(ctx); err != nil {
		return err
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	l.mark(history.Invoke)
	issuing, stopIssuing := context.WithCancel(context.Background())
	following, giveUp := context.WithCancel(context.Background())
	l.stopIssuing, l.giveUp = stopIssuing, giveUp
	for _, t := range l.tenants {
		for n := range l.o.Clients {
			c := l.client(t, fmt.Sprintf("%s-client-%d", t.Name, n+1))
			l.issuing.Go(func() { c.run(issuing, following) })
		}
		if l.o.Looks > 0 {
			c := l.client(t, t.Name+"-looker")
			l.issuing.Go(func() { c.look(issuing) })
		}
		if l.o.Lies > 0 {
			liar := &liar{load: l, tenant: t, dice: l.dice(t.Name + "-liar")}
			l.issuing.Go(func() { liar.run(issuing) })
		}
	}
	if l.o.Cuts > 0 {
		l.issuing.Go(func() { l.cut(issuing) })
	}
	return nil
}

// mark writes down when the load begins and when it ends.
func (l *Load) mark(p history.Phase) {
	l.history.Add(history.Event{Actor: "load", Kind: history.Load, Phase: p})
}

func (l *Load) client(t *tenant, name string) *client {
	c := &client{load: l, tenant: t, name: name, dice: l.dice(name), calls: newCaller(l.o.API, t.Token)}
	c.calls.turn.Store(int64(hash(name) % uint64(len(l.o.API)))) // every backend has users, as behind a load balancer
	return c
}

// dice of an actor.
func (l *Load) dice(actor string) *rand.Rand {
	return rand.New(rand.NewPCG(l.o.Seed, hash(actor)))
}

// install registers every tenant's devices with the first backend that answers.
func (l *Load) install(ctx context.Context) error {
	for _, one := range l.o.Tenants {
		sites := simulator.Layout{Prefix: one.Name, IPCs: l.o.IPCs, MetersPerIPC: l.o.MetersPerIPC, BusesPerIPC: 4,
			Direct: l.o.Direct, Key: fmt.Sprint(one.Name, l.o.Seed)}.Sites()
		var err error
		for _, address := range l.o.API {
			api := simulator.NewAPI(address, one.Token)
			err = api.Install(ctx, sites, "load")
			api.Close()
			if err == nil {
				break
			}
		}
		if err != nil {
			return fmt.Errorf("register the devices of %s: %w", one.Name, err)
		}
		l.tenants = append(l.tenants, &tenant{Tenant: one, sites: sites})
	}
	for _, t := range l.tenants {
		for _, other := range l.tenants {
			if other != t {
				t.others = append(t.others, other)
			}
		}
	}
	return nil
}

func (l *Load) connect(ctx context.Context) error {
	var sites []simulator.Site
	for _, t := range l.tenants {
		sites = append(sites, t.sites...)
	}
	l.recorder = &recorder{history: l.history}
	var err error
	l.fleet, err = simulator.New(simulator.Options{Brokers: l.o.MQTT, Sites: sites, Behaviour: l.behaviour(sites), Observer: l.recorder})
	if err != nil {
		return err
	}
	running, hangUp := context.WithCancel(context.Background())
	l.hangUp = hangUp
	l.connected.Go(func() { _ = l.fleet.Run(running) }) // it never fails
	select {
	case <-l.fleet.Ready():
		return nil
	case <-ctx.Done():
		hangUp()
		l.connected.Wait()
		return fmt.Errorf("%d of %d endpoints did not connect: %w; %s", l.fleet.Waiting(), len(sites), ctx.Err(), l.fleet.Counters().LastError)
	}
}

// behaviour is that of devices which answer fast, come back fast, and publish some things twice.
func (l *Load) behaviour(sites []simulator.Site) simulator.Behaviour {
	b := simulator.DefaultBehaviour()
	b.Seed, b.ClockOff = l.o.Seed, l.o.ClockOff
	b.AnswerMin, b.AnswerMax = 20*time.Millisecond, 200*time.Millisecond
	b.BusTimeoutRate, b.BusTimeout = 0.005, time.Second
	b.Faults = simulator.Faults{Late: 0.005, Lost: 0.01, Duplicate: max(0, l.o.Twice), Error: 0.02, Offline: 0.02}
	b.LateBy, b.OfflineFor = l.o.Deadline/2, 2*time.Second
	b.JournalSize = 50_000
	b.KeepAlive, b.AckTimeout = 10*time.Second, 5*time.Second
	b.RetryMin, b.RetryMax = 100*time.Millisecond, 3*time.Second
	if l.o.Readings > 0 {
		const perPush = 2
		b.PushEvery = time.Duration(float64(meters(sites)) * perPush / l.o.Readings * float64(time.Second))
	}
	return b
}

func meters(sites []simulator.Site) (n int) {
	for _, s := range sites {
		n += len(s.Targets())
	}
	return n
}

// twinMost is how long a twin stays at most. Its endpoint is back much earlier, unless something is broken.
const twinMost = 10 * time.Second

// cut closes connections in the middle, so that there are resends also where nothing else breaks, and lets every second
// endpoint in turn have a twin. No endpoint is cut so
// often that a gateway takes it for a flapping one.
func (l *Load) cut(ctx context.Context) {
	dice := l.dice("cutter")
	var ids []meterread.DeviceID
	for _, t := range l.tenants {
		for _, s := range t.sites {
			ids = append(ids, s.ID)
		}
	}
	every := max(l.o.Cuts, 15*time.Second/time.Duration(len(ids)))
	for n := 0; pause(ctx, every); n++ {
		if n%len(ids) == 0 {
			dice.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
		}
		if n%2 == 0 {
			l.fleet.Cut(ctx, ids[n%len(ids)])
			continue
		}
		l.issuing.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, twinMost)
			defer cancel()
			l.fleet.Twin(ctx, ids[n%len(ids)])
		})
	}
}

// History is where injectors write what they did, too; it is closed by Stop.
func (l *Load) History() *history.Writer { return l.history }

// Counters tell what the devices did so far.
func (l *Load) Counters() simulator.Counters { return l.fleet.Counters() }

// Stop ends the load in order: no more commands, lies and readings that nobody asked for; then the clients see the end of
// what is open, and the devices get a PUBACK for what they have. What takes longer than ctx allows is given up, and is an
// error.
func (l *Load) Stop(ctx context.Context) error {
	l.mark(history.OK)
	l.stopIssuing()
	l.fleet.StopPushing()
	l.issuing.Wait()
	err := l.drain(ctx)
	l.giveUp()
	l.following.Wait()
	l.hangUp()
	l.connected.Wait()
	return errors.Join(err, l.history.Close())
}

func (l *Load) drain(ctx context.Context) error {
	ended := make(chan struct{})
	go func() {
		l.following.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return fmt.Errorf("stop load: clients still wait for the end of commands: %w", ctx.Err())
	}
	for l.fleet.Counters().Journal > 0 {
		if !pause(ctx, 20*time.Millisecond) {
			return fmt.Errorf("stop load: %d uplinks have no PUBACK: %w", l.fleet.Counters().Journal, ctx.Err())
		}
	}
	return nil
}

// pause waits; false when ctx was done before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
