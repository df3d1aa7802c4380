package mqtt

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/meterread"
)

// Directory is where a Publisher finds the gateways.
type Directory interface {
	// Gateways lists the gateways with their heartbeat counters, those that have died included.
	Gateways(ctx context.Context) (map[command.Gateway]int64, error)
}

// PublisherOptions are what a Publisher needs; zero fields below Directory mean the defaults.
type PublisherOptions struct {
	ID        string // of the backend, part of the client id: unique among backends
	Secret    string // the backends' MQTT password
	Directory Directory

	LookEvery  time.Duration         // how often the directory is asked; a second
	Queue      int                   // messages per gateway that wait to be sent; 10 000
	InFlight   int                   // messages per gateway that wait for their PUBACK; 1000
	AckTimeout time.Duration         // a connection without a PUBACK for so long is given up; 10 s
	Logger     *slog.Logger          // nowhere
	Registerer prometheus.Registerer // nowhere
}

func (o PublisherOptions) withDefaults() PublisherOptions {
	if o.LookEvery == 0 {
		o.LookEvery = time.Second
	}
	if o.Queue == 0 {
		o.Queue = 10_000
	}
	if o.InFlight == 0 {
		o.InFlight = 1000
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}

// Publisher hands commands to gateways at QoS 1, over one MQTT connection to each. A message counts as handed over when
// its PUBACK came on the very connection it was sent on; nothing is ever sent again here, that is for the worker to do.
type Publisher struct {
	opt     PublisherOptions
	metrics *publisherMetrics

	mu    sync.RWMutex
	links map[string]*link // by id of the gateway
	over  bool

	refusals sync.WaitGroup // answers that are given at once
}

var _ command.Publisher = (*Publisher)(nil)

// NewPublisher makes a publisher that reaches nobody until Run runs.
func NewPublisher(opt PublisherOptions) *Publisher {
	return &Publisher{opt: opt.withDefaults(), metrics: newPublisherMetrics(opt.Registerer), links: map[string]*link{}}
}

// forgetAfter is how long a gateway that cannot be reached may be missing from the directory: a flush empties that, too.
const forgetAfter = time.Minute

// Run keeps a connection to every gateway of the directory until ctx is done. When it returns, every done has been called.
func (p *Publisher) Run(ctx context.Context) error {
	var links sync.WaitGroup
	tick := time.NewTicker(p.opt.LookEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		if err := p.look(ctx, &links); err != nil && ctx.Err() == nil {
			p.opt.Logger.Warn("gateways not listed", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	p.mu.Lock()
	p.over = true
	clear(p.links)
	p.mu.Unlock()
	links.Wait()
	p.refusals.Wait()
	return nil
}

// look brings the links up to date with the directory. Links outlive a directory that cannot be read.
func (p *Publisher) look(ctx context.Context, links *sync.WaitGroup) error {
	listing, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	gateways, err := p.opt.Directory.Gateways(listing)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for g := range gateways {
		if l := p.links[g.ID]; l != nil {
			l.point(g, now)
			continue
		}
		l := newLink(p.opt, p.metrics, g, now)
		p.links[g.ID] = l
		linkCtx, stop := context.WithCancel(ctx)
		l.stop = stop
		links.Go(func() { l.run(linkCtx) })
	}
	for id, l := range p.links {
		if !l.reachable() && now.Sub(l.seen()) > forgetAfter {
			l.stop()
			delete(p.links, id)
		}
	}
	return nil
}

// Reachable says whether there is a connection to the gateway now.
func (p *Publisher) Reachable(gateway string) bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	l := p.links[gateway]
	return l != nil && l.reachable()
}

// Publish starts to send m to the endpoint by its gateway and does not wait; ctx does not matter any more once it has
// returned. done is called once, from another goroutine, and must not block: with nil when the PUBACK came, with
// command.ErrGatewayGone when the message was surely not sent, with any other error when that is not known.
func (p *Publisher) Publish(ctx context.Context, gateway string, endpoint meterread.DeviceID, m command.Message, done func(error)) {
	payload, err := json.Marshal(m)
	if err != nil {
		p.refuse(done, fmt.Errorf("encode message: %w", err))
		return
	}
	p.mu.RLock()
	l := p.links[gateway]
	p.mu.RUnlock()
	switch {
	case ctx.Err() != nil:
		err = fmt.Errorf("%w: %w", command.ErrGatewayGone, ctx.Err())
	case l == nil:
		err = fmt.Errorf("gateway %s is not known: %w", gateway, command.ErrGatewayGone)
	default:
		err = l.offer(job{CommandTopic(endpoint), payload, done})
	}
	if err != nil {
		p.refuse(done, err)
	}
}

// refuse answers a message that was not sent.
func (p *Publisher) refuse(done func(error), err error) {
	p.metrics.refused.Inc()
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.over { // nobody waits any more for what is asked too late
		go done(err)
		return
	}
	p.refusals.Go(func() { done(err) })
}

type publisherMetrics struct {
	acknowledged, refused, unknown prometheus.Counter
	connections                    prometheus.Gauge
}

func newPublisherMetrics(reg prometheus.Registerer) *publisherMetrics {
	messages := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "meterline_publisher_messages_total",
		Help: "Messages for endpoints by what became of them: acknowledged by the gateway, refused before they were sent, or unknown."},
		[]string{"outcome"})
	m := &publisherMetrics{
		acknowledged: messages.WithLabelValues("acknowledged"),
		refused:      messages.WithLabelValues("refused"),
		unknown:      messages.WithLabelValues("unknown"),
		connections:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "meterline_publisher_connections", Help: "Gateways that this backend is connected to."}),
	}
	if reg != nil {
		reg.MustRegister(messages, m.connections)
	}
	return m
}
