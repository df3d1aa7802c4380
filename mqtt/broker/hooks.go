package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/packets"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"meterline/fleet"
)

// refusedFilter stands for a filter that a client may not subscribe to; mochi then answers as it should.
const refusedFilter = "$meterline/refused"

// nothing is a packet that mochi has nothing to do for: an acknowledgement of what it never sent.
var nothing = packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Puback}}

// hooks is where mochi asks us. Each survives a panic below it: that client is stopped, and nobody else notices. Errors
// never go back to mochi but for the two it can bear, for it acknowledges in spite of any other.
type hooks struct {
	mochi.HookBase
	life      context.Context // of the broker, the drain at its end included
	log       *slog.Logger
	metrics   *metrics
	server    *mochi.Server
	admission *admission
	endpoints *endpoints
	presence  *presence
	delivery  *delivery
	uplinks   *uplinks
	fanout    *fanout
	maxPacket uint32

	serial  atomic.Uint64
	refusal rate.Sometimes // logs of refused clients
}

var provided = [256]bool{
	mochi.OnConnect: true, mochi.OnConnectAuthenticate: true, mochi.OnACLCheck: true, mochi.OnSessionEstablish: true,
	mochi.OnSessionEstablished: true, mochi.OnPacketRead: true, mochi.OnPacketEncode: true, mochi.OnSubscribe: true,
	mochi.OnSubscribed: true, mochi.OnUnsubscribe: true, mochi.OnUnsubscribed: true, mochi.OnPublish: true,
	mochi.OnPublishDropped: true, mochi.OnSelectSubscribers: true, mochi.OnClientExpired: true,
}

// ID names the hook for mochi.
func (h *hooks) ID() string { return "meterline" }

// Provides says which hooks there are.
func (h *hooks) Provides(b byte) bool { return provided[b] }

// guard stops the client when the hook panics. It must be deferred directly.
func (h *hooks) guard(client *mochi.Client, where string) {
	if p := recover(); p != nil {
		h.metrics.panics.Inc()
		h.log.Error("recovered from a panic", "where", where, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if client != nil {
			client.Stop(packets.ErrImplementationSpecificError)
		}
	}
}

// sessionOf is nil for a client that has not been admitted, or is none of ours.
func sessionOf(client *mochi.Client) *session {
	if w, ok := client.Net.Conn.(*wire); ok {
		return w.session.Load()
	}
	return nil
}

// OnConnect looks at what does not depend on who the client is.
func (h *hooks) OnConnect(client *mochi.Client, pk packets.Packet) (err error) {
	err = packets.ErrImplementationSpecificError
	defer h.guard(client, "connect")
	w, ok := client.Net.Conn.(*wire)
	if !ok {
		return packets.ErrImplementationSpecificError
	}
	w.receiveMaximum = math.MaxUint16
	if r := client.Properties.Props.ReceiveMaximum; r > 0 {
		w.receiveMaximum = r
	}
	// mochi's own flow control towards MQTT 5 clients deadlocks, so it is switched off; endpoints get ours.
	client.Properties.Props.ReceiveMaximum = 0
	client.State.Inflight.ResetSendQuota(0)

	keep := &client.State.Keepalive
	if pk.ProtocolVersion >= 5 && (*keep == 0 || *keep > keepAliveMost) {
		*keep, client.State.ServerKeepalive = keepAliveMost, true
	}
	*keep = min(*keep, keepAliveRange) // MQTT 3.1.1 cannot be told; TCP notices a dead peer all the same
	return nil
}

// OnConnectAuthenticate admits the client or answers why not.
func (h *hooks) OnConnectAuthenticate(client *mochi.Client, pk packets.Packet) (ok bool) {
	defer h.guard(client, "authenticate")
	w := client.Net.Conn.(*wire)
	who, err := h.admission.admit(h.life, hello{
		clientID:  client.ID,
		username:  string(pk.Connect.Username),
		password:  pk.Connect.Password,
		anonymous: !pk.Connect.UsernameFlag && !pk.Connect.PasswordFlag,
		will:      pk.Connect.WillFlag,
		willTopic: pk.Connect.WillTopic,
		certified: w.certified,
		unspoken:  !pk.Connect.PasswordFlag,
	})
	if err != nil {
		w.refused = true
		h.refuse(client, string(pk.Connect.Username), err)
		return false
	}
	client.ID = who.mochiID(client.ID, h.serial.Add(1))
	w.session.Store(h.newSession(client, w, pk, who))
	w.admitted()
	return true
}

// refuse answers a client that is not admitted. For what it does not answer itself, mochi says bad user name or password.
func (h *hooks) refuse(client *mochi.Client, username string, err error) {
	code, reason := packets.ErrBadUsernameOrPassword, "credentials"
	switch {
	case errors.Is(err, errUnavailable):
		code, reason = packets.ErrServerUnavailable, "unavailable"
	case errors.Is(err, errClientID):
		code, reason = packets.ErrClientIdentifierNotValid, "client_id"
	case errors.Is(err, errWill):
		code, reason = packets.ErrNotAuthorized, "will"
		if client.Properties.ProtocolVersion < 5 {
			code = packets.ErrBadUsernameOrPassword // becomes 5, not authorized
		}
	}
	h.metrics.refused.WithLabelValues(reason).Inc()
	h.refusal.Do(func() {
		h.log.Info("client refused", "reason", reason, "username", clip(username), "remote_addr", client.Net.Remote, "error", err)
	})
	_ = h.server.SendConnack(client, code, false, nil)
	client.Stop(code)
}

func (h *hooks) newSession(client *mochi.Client, w *wire, pk packets.Packet, who identity) *session {
	s := &session{link: mochiLink{client}, who: who, remote: client.Net.Remote, since: time.Now()}
	if who.role != roleEndpoint {
		return s
	}
	s.shard = h.uplinks.shard(who.endpoint)
	s.window = semaphore.NewWeighted(windowUnits)
	s.receiveMaximum = int(w.receiveMaximum)
	s.clean = pk.Connect.Clean
	switch {
	case pk.ProtocolVersion >= 5:
		s.expiry.Store(int64(pk.Properties.SessionExpiryInterval))
	case !pk.Connect.Clean:
		s.expiry.Store(int64(resumeMost / time.Second))
	}
	return s
}

// OnSessionEstablish comes before CONNACK: the endpoint's session before this one is over when it returns.
func (h *hooks) OnSessionEstablish(client *mochi.Client, _ packets.Packet) {
	defer h.guard(client, "establish")
	s := sessionOf(client)
	h.metrics.accepted.WithLabelValues(s.who.role.String()).Inc()
	if s.who.role != roleEndpoint {
		return
	}
	h.presence.begin(h.life, s)
	// Now that Forget would find the session: was the credential taken back while it was being admitted?
	cred, err := h.admission.credentials.get(h.life, s.who.endpoint, math.MaxInt64)
	if err != nil || cred == nil || !s.who.stillGood(*cred) {
		s.link.stop(packets.ErrNotAuthorized)
	}
}

// OnSessionEstablished comes after CONNACK.
func (h *hooks) OnSessionEstablished(client *mochi.Client, _ packets.Packet) {
	defer h.guard(client, "established")
	if s := sessionOf(client); s.own() && s.resumed {
		h.presence.subscribed(s, func() {})
	}
}

// ended is called when the connection is gone, whatever mochi told us of it.
func (h *hooks) ended(w *wire) {
	s := w.session.Load()
	if s == nil || s.who.role != roleEndpoint {
		return
	}
	if s.slot != nil {
		h.presence.end(h.life, s)
	}
	if l, ok := s.link.(mochiLink); ok {
		h.server.Clients.Delete(l.client.ID) // its own id, that no other client has
	}
}

// OnPacketRead takes the packets of endpoints away from mochi.
func (h *hooks) OnPacketRead(client *mochi.Client, pk packets.Packet) (out packets.Packet, err error) {
	err = packets.ErrRejectPacket // disconnects
	defer h.guard(client, "packet")
	s := sessionOf(client)
	if s == nil || s.who.role != roleEndpoint || !h.endpoints.packet(h.life, s, pk) {
		return pk, nil
	}
	return nothing, nil
}

// OnPacketEncode completes CONNACK.
func (h *hooks) OnPacketEncode(client *mochi.Client, pk packets.Packet) packets.Packet {
	if pk.FixedHeader.Type != packets.Connack || pk.ReasonCode != 0 {
		return pk
	}
	if s := sessionOf(client); s != nil {
		return connack(s, pk, h.maxPacket)
	}
	return pk
}

// OnACLCheck is asked about service clients and backends: before a publish, about a filter (which OnSubscribe has
// looked at), and before every delivery.
func (h *hooks) OnACLCheck(client *mochi.Client, topic string, write bool) (ok bool) {
	defer h.guard(client, "acl")
	s := sessionOf(client)
	switch {
	case s == nil || topic == refusedFilter:
		return false
	case write:
		if ok = s.who.mayPublish(topic); !ok {
			h.metrics.refusedTopics.WithLabelValues(s.who.role.String()).Inc()
			h.log.Info("publish refused", "role", s.who.role.String(), "token_id", s.who.token, "topic", clip(topic))
		}
		return ok
	}
	_, inner := shared(topic)
	if !ours(inner) || strings.ContainsAny(inner, "+#") {
		return true
	}
	return h.fanout.mayReceive(s.who, topic)
}

// OnSubscribe replaces the filters a client may not have.
func (h *hooks) OnSubscribe(client *mochi.Client, pk packets.Packet) packets.Packet {
	defer h.guard(client, "subscribe")
	s := sessionOf(client)
	for i := range pk.Filters {
		f := &pk.Filters[i]
		if s == nil || !s.who.maySubscribe(f.Filter) {
			h.metrics.refusedTopics.WithLabelValues(roleService.String()).Inc()
			f.Filter = refusedFilter
			continue
		}
		f.Filter = widen(f.Filter)
	}
	return pk
}

// widen makes a filter below meterline/ that is a plain topic one with a wildcard that matches the same: a filter can
// then be told from a topic in OnACLCheck.
func widen(filter string) string {
	if _, inner := shared(filter); ours(inner) && !strings.ContainsAny(inner, "+#") {
		return filter + "/#"
	}
	return filter
}

// OnSubscribed keeps the fan-out's books.
func (h *hooks) OnSubscribed(client *mochi.Client, pk packets.Packet, codes []byte) {
	defer h.guard(client, "subscribed")
	for i, f := range pk.Filters {
		if i < len(codes) && codes[i] < packets.ErrUnspecifiedError.Code {
			h.fanout.subscribed(client.ID, f.Filter)
		}
	}
}

// OnUnsubscribe follows OnSubscribe.
func (h *hooks) OnUnsubscribe(client *mochi.Client, pk packets.Packet) packets.Packet {
	defer h.guard(client, "unsubscribe")
	for i := range pk.Filters {
		pk.Filters[i].Filter = widen(pk.Filters[i].Filter)
	}
	return pk
}

// OnUnsubscribed keeps the fan-out's books.
func (h *hooks) OnUnsubscribed(client *mochi.Client, pk packets.Packet) {
	defer h.guard(client, "unsubscribed")
	for _, f := range pk.Filters {
		h.fanout.unsubscribed(client.ID, f.Filter)
	}
}

// OnPublish takes commands out of what backends and service clients publish. They are handed over when it returns, so
// mochi may acknowledge them.
func (h *hooks) OnPublish(client *mochi.Client, pk packets.Packet) (out packets.Packet, err error) {
	out, err = pk, packets.ErrRejectPacket // neither acknowledged nor given out
	defer h.guard(client, "publish")
	if client.Net.Inline {
		return pk, nil
	}
	s := sessionOf(client)
	if s == nil {
		return pk, packets.ErrRejectPacket
	}
	var endpoint fleet.DeviceID
	var ok bool
	if endpoint, ok = commandTopic(s.who, pk.TopicName); !ok {
		return pk, nil
	}
	h.delivery.handle(s.who, endpoint, pk.TopicName, pk.Payload)
	return pk, packets.CodeSuccessIgnore
}

// OnPublishDropped disconnects a service client whose queue is full.
func (h *hooks) OnPublishDropped(client *mochi.Client, _ packets.Packet) {
	defer h.guard(client, "dropped")
	h.metrics.slowClosed.WithLabelValues("queue").Inc()
	mochiLink{client}.stop(packets.ErrQuotaExceeded)
}

// OnSelectSubscribers leaves in a share only who may have the message and, if there is one, who is connected.
func (h *hooks) OnSelectSubscribers(subs *mochi.Subscribers, pk packets.Packet) *mochi.Subscribers {
	defer h.guard(nil, "select")
	for _, group := range subs.Shared {
		connected := 0
		for id := range group {
			client, ok := h.server.Clients.Get(id)
			if !ok || ours(pk.TopicName) && !h.OnACLCheck(client, pk.TopicName, false) {
				delete(group, id)
				continue
			}
			if !client.Closed() {
				connected++
			}
		}
		if connected == 0 {
			continue
		}
		for id := range group {
			if client, ok := h.server.Clients.Get(id); ok && client.Closed() {
				delete(group, id)
			}
		}
	}
	return subs
}

// OnClientExpired takes the subscriptions of a session away that mochi forgets: it would leave them behind.
func (h *hooks) OnClientExpired(client *mochi.Client) {
	defer h.guard(client, "expired")
	h.server.UnsubscribeClient(client)
}
