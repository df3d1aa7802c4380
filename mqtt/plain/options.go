package plain

import (
	"log/slog"
	"math"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
)

// A Link is the connection to a client. No method waits for the network, and any goroutine may call any; the hub calls
// them with locks held, so they must not call back into the hub.
type Link interface {
	// Send takes a packet to be written after all that were taken before. It is complete, ProtocolVersion included; its
	// slices must not be changed. packets.ErrPacketTooLarge means that the client's Maximum Packet Size forbids it and
	// nothing was taken; any other error that the connection is over or about to be.
	Send(pk packets.Packet) error
	// Stop ends the connection; the link tells clients of MQTT 5 why, if CONNACK has gone out [MQTT-3.14.0-1]. It may come
	// before CONNACK, when another connection has taken the session over by then.
	Stop(reason packets.Code)
}

// Flow may be implemented by a Link that knows how far the client is behind. Without room, messages wait in the session's
// queue until Session.Resume is called, instead of filling the link's backlog until it has to close.
type Flow interface {
	// Room says whether the link wants more messages. When it has said no, Session.Resume must be called, from outside
	// Send, Stop and Room, once there is room again.
	Room() bool
}

// Leaver may be implemented by a Link that reads ahead of what it is told: a client that says DISCONNECT, closes and comes
// back at once may be here again before that DISCONNECT has been read.
type Leaver interface {
	// Leave is called, without locks, before the session is taken over by a newer connection. It may wait a moment for what
	// has arrived to be read and the connection to end by itself.
	Leave()
}

// Rules say who may do what. They are asked with the Who of the Connect, sometimes with locks held: they answer at once
// and do not call into the hub. Take is the exception: it is called without locks and holds up only its publisher.
type Rules interface {
	// MayPublish is asked before every publish, wills included.
	MayPublish(who any, topic string) bool
	// MaySubscribe is asked about valid filters; a shared one comes as it was sent, $share/name/filter.
	MaySubscribe(who any, filter string) bool
	// MayReceive is asked about messages that have an About, at every delivery, of retained and queued ones too.
	MayReceive(who any, m *Message) bool
	// Take is offered what a client publishes. True: it is handled elsewhere, acknowledged, and goes no further.
	Take(who any, m *Message) (taken bool)
}

// Connect is what a client asked for in CONNECT, as far as the session is concerned.
type Connect struct {
	Key               string // who the session belongs to: name space and client id
	Version           byte   // 4 or 5
	Clean             bool
	SessionExpiry     uint32 // seconds, MQTT 5 only; math.MaxUint32: never
	ReceiveMaximum    uint16 // 0: not said, which is 65535
	TopicAliasMaximum uint16
	Will              *Will // nil: none
	Who               any   // for Rules

	// Until is when the session ends without connection whatever its expiry, because Who is nobody any more then; zero:
	// never. Connections are the caller's to close.
	Until time.Time
}

// Options of a Hub. What is zero gets the default that is said.
type Options struct {
	Rules      Rules                 // nil: everything is allowed
	Logger     *slog.Logger          // nil: none
	Registerer prometheus.Registerer // nil: metrics are counted and not exported
	Now        func() time.Time      // time.Now

	// Watch says whether a filter may match what is published from inside, for Interested. $share/name/ is cut off. nil:
	// all filters may.
	Watch func(filter string) bool

	// what CONNACK tells clients of MQTT 5, and is held against them
	ReceiveMaximum    uint16 // unfinished QoS 2 publishes of a client, and one of QoS 1; 1024
	TopicAliasMaximum uint16 // 32

	// to a client
	Inflight      int // messages without acknowledgement, when its Receive Maximum is more; 1024
	InflightBytes int // 256 KiB; one message always goes
	Queue         int // messages behind those, and for a client that is away; 10 000
	QueueBytes    int // 16 MiB
	TotalBytes    int // of all queues, but for the first InflightBytes of each client that is connected; 256 MiB

	Retained      int // topics; 10 000
	RetainedBytes int // 16 MiB

	Subscriptions int           // per session; 10 000
	FilterBytes   int           // of all filters of a session, each level counted as eight bytes more; 1 MiB
	Levels        int           // of a filter and of a retained topic; 128
	Offline       int           // sessions without connection; beyond that the one that is away for longest ends; 100 000
	Subscribed    int           // subscriptions of all sessions; 1 000 000
	Branches      int           // different levels in all filters, as memory goes by them; 1 000 000
	Session311    time.Duration // how long MQTT 3.1.1 sessions live without connection; 7 days
}

func (o Options) withDefaults() Options {
	if o.Rules == nil {
		o.Rules = allowAll{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Watch == nil {
		o.Watch = func(string) bool { return true }
	}
	orElse(&o.ReceiveMaximum, 1024)
	orElse(&o.TopicAliasMaximum, 32)
	orElse(&o.Inflight, 1024)
	o.Inflight = min(o.Inflight, math.MaxUint16/2) // packet ids are found by trying
	orElse(&o.InflightBytes, 256<<10)
	orElse(&o.Queue, 10_000)
	orElse(&o.QueueBytes, 16<<20)
	orElse(&o.TotalBytes, 256<<20)
	orElse(&o.Retained, 10_000)
	orElse(&o.RetainedBytes, 16<<20)
	orElse(&o.Subscriptions, 10_000)
	orElse(&o.FilterBytes, 1<<20)
	orElse(&o.Levels, 128)
	orElse(&o.Offline, 100_000)
	orElse(&o.Subscribed, 1_000_000)
	orElse(&o.Branches, 1_000_000)
	orElse(&o.Session311, 7*24*time.Hour)
	return o
}

func orElse[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

type allowAll struct{}

func (allowAll) MayPublish(any, string) bool    { return true }
func (allowAll) MaySubscribe(any, string) bool  { return true }
func (allowAll) MayReceive(any, *Message) bool  { return true }
func (allowAll) Take(any, *Message) (took bool) { return false }
