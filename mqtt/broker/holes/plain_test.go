package holes_test

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/mochi-mqtt/server/v2/packets"
)

// plainBroker is mochi as it comes: default options, everybody is let in, a TCP listener, no store.
type plainBroker struct{ server *mochi.Server }

func newPlain(hook string) (*plainBroker, error) {
	options := &mochi.Options{InlineClient: true, Logger: slog.New(slog.DiscardHandler)}
	b := &plainBroker{server: mochi.New(options)}
	var extra mochi.Hook = new(auth.AllowHook)
	if hook != "" {
		extra = &plainHook{kind: hook}
		if hook != "acl" {
			if err := b.server.AddHook(extra, nil); err != nil {
				return nil, err
			}
			extra = new(auth.AllowHook)
		}
	}
	if err := b.server.AddHook(extra, nil); err != nil {
		return nil, err
	}
	l := listeners.NewTCP(listeners.Config{ID: "tcp", Address: "127.0.0.1:0"})
	if err := b.server.AddListener(l); err != nil {
		return nil, err
	}
	return b, b.server.Serve()
}

func (b *plainBroker) address() string {
	l, _ := b.server.Listeners.Get("tcp")
	return l.Address()
}

func (b *plainBroker) clients() int {
	n := 0
	for _, c := range b.server.Clients.GetAll() {
		if !c.Net.Inline {
			n++
		}
	}
	return n
}

// publish publishes from within, by four goroutines.
func (b *plainBroker) publish(topic string, n int) int {
	var failed atomic.Int32
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := g; i < n; i += 4 {
				if err := b.server.Publish(topic, payload(topic, i, 0), false, 1); err != nil {
					failed.Add(1)
				}
			}
		})
	}
	all.Wait()
	return int(failed.Load())
}

func (b *plainBroker) stop() { _ = b.server.Close() }

// plainHook is what an integrator's hook may be like.
type plainHook struct {
	mochi.HookBase
	kind  string
	calls atomic.Int64
}

var errStore = errors.New("the store is down")

// Provides says which hooks there are.
func (h *plainHook) Provides(b byte) bool {
	switch h.kind {
	case "acl":
		return b == mochi.OnACLCheck || b == mochi.OnConnectAuthenticate
	case "panic":
		return b == mochi.OnConnectAuthenticate
	case "slow":
		return b == mochi.OnUnsubscribed
	default:
		return b == mochi.OnPublish
	}
}

func (h *plainHook) OnConnectAuthenticate(_ *mochi.Client, pk packets.Packet) bool {
	if h.kind == "panic" && string(pk.Connect.Password) == "panic" {
		panic("a hook that does not expect this")
	}
	return true
}

// OnACLCheck lets nobody write below meterline/.
func (h *plainHook) OnACLCheck(_ *mochi.Client, topic string, write bool) bool {
	return !write || !strings.HasPrefix(topic, "meterline/")
}

func (h *plainHook) OnPublish(_ *mochi.Client, pk packets.Packet) (packets.Packet, error) {
	switch h.kind {
	case "wrapped":
		return pk, fmt.Errorf("%w: %w", errStore, packets.ErrQuotaExceeded)
	case "quota":
		return pk, packets.ErrQuotaExceeded
	}
	return pk, errStore
}

// OnUnsubscribed is a store that takes its time, more of it with each call.
func (h *plainHook) OnUnsubscribed(*mochi.Client, packets.Packet) {
	time.Sleep(time.Duration(50*h.calls.Add(1)) * time.Millisecond)
}
