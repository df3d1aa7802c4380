package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt/door"
	"meterline/mqtt/plain"
)

const (
	drainPatience  = 8 * time.Second // a gateway ends within 10 s
	defaultPayload = 256 << 10
	packetOverhead = 8 << 10 // topic and properties, beside the payload
	defaultBacklog = 512 << 10
	defaultBan     = 5 * time.Minute
)

// Options are what a broker needs.
type Options struct {
	Gateway   command.Gateway // Address "": that of the first listener without TLS and WebSocket
	Listeners []door.Listen

	Log         Log
	Credentials Credentials
	Sessions    Sessions
	Tokens      Tokens      // nil: no service clients
	Revocations Revocations // nil: what is taken back is found within a minute

	Pepper        fleet.Pepper
	BackendSecret string    // password of user backend; "": no backends
	Anonymous     Anonymous // "": none

	BanAfter  int           // wrong secrets in a minute, of a user name from an address; 0: nobody is banned
	BanFor    time.Duration // the longest ban; 0: 5 min
	FlapLimit int           // connects of an endpoint in a minute before it is held off; 0: none is

	Partitions int // of the uplink log, as made by migrate
	Shards     int // committers; 0: 2
	MaxPayload int // bytes of one publish; 0: 256 KiB
	Backlog    int // bytes a client may leave unread before it is disconnected; 0: 512 KiB, and at least two publishes

	Unadmitted           int                // connections that are not admitted yet, in all; 0: 16384. At most half the file descriptors
	UnadmittedPerAddress int                // of one address (IPv6: /64) before those that keep us waiting are closed; 0: 256
	Proxies              []netip.Prefix     // from these networks every connection begins with a PROXY header (version 2)
	Certificates         *door.Certificates // of listeners: read again while the broker runs; nil: none to be
	PublishRate          float64            // messages a second of one endpoint, beyond which it is read more slowly; 0: any
	PublishBytes         int                // and bytes of payload; 0: any

	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics are not registered
}

// Broker is one MQTT edge node.
type Broker struct {
	log      *slog.Logger
	said     *sparing // what is logged for each client
	server   *mochi.Server
	door     *door.Door
	wires    *wires
	registry *registry
	front    *front
	uplinks  *uplinks
	hub      *plain.Hub
	fanout   *fanout
	delivery *delivery
	presence *presence
	creds    *credentials
	tokens   *tokens
	metrics  *metrics
	guard    *guard

	revocations     Revocations
	revocationsRead atomic.Int64 // Unix nanoseconds

	draining atomic.Bool
	life     context.Context // ends after the drain
	end      context.CancelFunc
}

// New checks the options and binds the listeners: from now on clients queue up, and Run serves them. A broker that is
// not going to run must be closed.
func New(o Options) (*Broker, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	b := &Broker{log: o.Logger, said: newSparing(o.Logger), wires: &wires{open: map[*wire]struct{}{}}, registry: newRegistry()}
	b.metrics = newMetrics(o.Registerer)
	b.guard = newGuard(o.Logger, b.metrics)
	o.guardPorts(b.guard)
	b.life, b.end = context.WithCancel(context.Background())
	if err := b.open(&o); err != nil {
		b.end()
		return nil, err
	}
	b.creds, b.tokens, b.revocations = newCredentials(o.Credentials, b.metrics), newTokens(o.Tokens, b.metrics), o.Revocations
	b.creds.changed = b.hold
	b.revocationsRead.Store(time.Now().UnixNano())
	b.fanout = newFanout(o, b.metrics)
	b.uplinks = newUplinks(o, b.guard, b.fanout, b.metrics)
	b.uplinks.flapping = newFlapping(o, b.uplinks, b.metrics)
	b.delivery = newDelivery(o, b.uplinks, b.registry, b.fanout, b.metrics, b.said)
	b.presence = newPresence(o, b.guard, b.registry, b.uplinks, b.delivery, b.metrics)
	services := &services{metrics: b.metrics, delivery: b.delivery, tokens: b.tokens, said: b.said}
	b.hub = plain.New(plain.Options{
		Rules: services, Logger: o.Logger, Registerer: o.Registerer, Watch: mayMatchOurs, Session311: resumeMost,
	})
	services.hub, b.fanout.hub = b.hub, b.hub
	b.front = &front{
		life: b.life, door: b.door, metrics: b.metrics, uplinks: b.uplinks, plain: b.hub.Options(), maxPacket: o.MaxPayload + packetOverhead,
		said: b.said,
		admission: &admission{
			credentials: b.creds, tokens: b.tokens, bans: newBans(o, b.metrics, b.said), flapping: b.uplinks.flapping,
			pepper: o.Pepper, backend: o.BackendSecret, anonymous: o.Anonymous, metrics: b.metrics,
		},
	}
	endpoints := &endpoints{
		said: b.said, metrics: b.metrics, uplinks: b.uplinks, delivery: b.delivery, presence: b.presence,
		credentials: b.creds, draining: &b.draining, pace: newPace(o, b.metrics),
	}
	b.server = newServer(o.Logger)
	admissionGauges(o.Registerer, b.front.admission, &b.revocationsRead)
	if err := b.server.AddHook(&hooks{guard: b.guard, services: services}, nil); err != nil {
		b.Close()
		return nil, fmt.Errorf("add hook: %w", err)
	}
	for _, l := range b.door.Listeners() {
		e := &entrance{
			Listener: l, life: b.life, guard: b.guard, wires: b.wires, front: b.front, endpoints: endpoints, services: services,
		}
		if err := b.server.AddListener(e); err != nil {
			b.Close()
			return nil, fmt.Errorf("add listener %s: %w", e.ID(), err)
		}
	}
	return b, nil
}

func (o *Options) complete() error {
	if o.Log == nil || o.Credentials == nil || o.Sessions == nil {
		return errors.New("broker needs a log, credentials and sessions")
	}
	if o.Partitions < 1 {
		return errors.New("broker needs the number of partitions")
	}
	if len(o.Listeners) == 0 {
		return errors.New("broker needs a listener")
	}
	switch o.Anonymous {
	case "":
		o.Anonymous = AnonymousNone
	case AnonymousNone, AnonymousMQTT, AnonymousAdmin:
	default:
		return fmt.Errorf("unknown role %q for anonymous clients", o.Anonymous)
	}
	if o.BanFor == 0 {
		o.BanFor = defaultBan
	}
	if o.Shards == 0 {
		o.Shards = 2
	}
	if o.MaxPayload == 0 {
		o.MaxPayload = defaultPayload
	}
	o.Backlog = max(o.Backlog, defaultBacklog, 2*(o.MaxPayload+packetOverhead))
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}

// open binds the listeners, and fills in the gateway's address.
func (b *Broker) open(o *Options) (err error) {
	b.door, err = door.New(door.Options{
		Listeners: o.Listeners, Unadmitted: o.Unadmitted, UnadmittedPerAddress: o.UnadmittedPerAddress, Proxies: o.Proxies,
		Certificates: o.Certificates, Backlog: o.Backlog, Message: o.MaxPayload + packetOverhead,
		Logger: o.Logger, Registerer: o.Registerer, Say: b.said.say, Guard: b.guard.run,
	})
	if err != nil {
		return err
	}
	for _, l := range b.door.Listeners() {
		if spec := l.Spec(); o.Gateway.Address == "" && spec.TLS == nil && !spec.WebSocket {
			o.Gateway.Address = l.Address()
		}
	}
	return nil
}

// Addr is the address the named listener is bound to, "" when there is none of that name.
func (b *Broker) Addr(name string) string { return b.Addrs()[name] }

// Addrs lists the bound addresses by the names of the listeners.
func (b *Broker) Addrs() map[string]string {
	addrs := map[string]string{}
	for _, l := range b.door.Listeners() {
		addrs[l.Spec().Name] = l.Address()
	}
	return addrs
}

// Run serves until ctx is done, then drains: it stops accepting, commits what was taken, acknowledges it, closes the
// connections and tells that they are gone. The drain takes 8 s at most; an error says that it did not get to its end.
// Run is called once.
func (b *Broker) Run(ctx context.Context) error {
	var periodic, lasting sync.WaitGroup
	keep := func(life context.Context, group *sync.WaitGroup, where string, f func(context.Context)) {
		group.Go(func() { b.guard.keep(life, where, f) })
	}
	for _, s := range b.uplinks.shards {
		keep(b.life, &lasting, "committer", s.run)
	}
	keep(b.life, &lasting, "fanout", b.fanout.run)
	keep(b.life, &lasting, "hub", func(ctx context.Context) { _ = b.hub.Run(ctx) })
	keep(b.life, &lasting, "credentials", b.creds.run)
	keep(b.life, &lasting, "heartbeat", b.presence.heartbeat)
	keep(b.life, &lasting, "delivery", b.delivery.run)
	keep(ctx, &periodic, "certificates", b.door.Run)
	keep(ctx, &periodic, "watch", b.presence.watch)
	keep(ctx, &periodic, "verify", b.presence.verify)
	keep(ctx, &periodic, "roll call", b.presence.rollCall)
	keep(ctx, &periodic, "recheck", b.recheck)
	keep(ctx, &periodic, "revocations", b.followRevocations)
	err := b.server.Serve()
	if err == nil {
		for _, l := range b.door.Listeners() {
			b.log.Info("accepting MQTT clients", "listener", l.Spec().Name, "address", l.Address())
		}
		<-ctx.Done()
	}
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPatience)
	defer cancel()
	err = errors.Join(err, b.drain(deadline))
	b.end()
	periodic.Wait()
	lasting.Wait()
	return err
}

// drain ends the service in order. Each step is bounded by ctx.
func (b *Broker) drain(ctx context.Context) error {
	began := time.Now()
	b.draining.Store(true)
	b.door.Stop()
	var errs []error
	if err := b.uplinks.flush(ctx); err != nil {
		errs = append(errs, fmt.Errorf("commit uplinks: %w", err))
	}
	for _, w := range b.wires.close() {
		w.part(packets.ErrUseAnotherServer)
	}
	if err := wait(ctx, b.door.Wait); err != nil {
		errs = append(errs, fmt.Errorf("close connections: %w", err))
	}
	if err := b.uplinks.flush(ctx); err != nil { // what ended with the connections
		errs = append(errs, fmt.Errorf("commit hints: %w", err))
	}
	if err := wait(ctx, func() { _ = b.server.Close() }); err != nil {
		errs = append(errs, fmt.Errorf("close broker: %w", err))
	}
	b.log.Info("gateway drained", "took", time.Since(began))
	return errors.Join(errs...)
}

// wait waits for f to return, or for ctx: then f is left behind.
func wait(ctx context.Context, f func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close gives back what New took, for a broker that is not going to run.
func (b *Broker) Close() {
	b.end()
	b.door.Stop()
}
