package broker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
	"meterline/mqtt"
)

const (
	batchEntries = 512
	batchBytes   = 1 << 20 // more would hold up whoever waits for the next one

	// What one connection may have unacknowledged: 128 small messages, or 4 MiB.
	windowUnits = 128
	unitBytes   = 32 << 10

	appendPatience = 3 * time.Second // for one batch, retries included
	retryFirst     = 50 * time.Millisecond
	retryMost      = 500 * time.Millisecond

	hintShare     = 0.75 // a queue that is fuller than this sheds hints
	promiseless   = 0.5  // ... and QoS 0 uplinks
	securityPause = time.Minute
)

// uplinks takes what endpoints publish to the log. Endpoints are spread over shards; each has one committer, so that
// the order per endpoint is kept and an append never waits for a timer: it takes what piled up during the one before.
type uplinks struct {
	log        *slog.Logger
	metrics    *metrics
	guard      *guard
	gateway    string // "gateway/incarnation"
	partitions int
	maxPayload int
	now        func() time.Time
	shards     []*shard
	flapping   *flapping
}

// shard is one queue and its committer.
type shard struct {
	*queue
	of      *uplinks
	durable Log
	fanout  *fanout
}

func newUplinks(o Options, g *guard, f *fanout, m *metrics) *uplinks {
	u := &uplinks{
		log: o.Logger, metrics: m, guard: g, gateway: o.Gateway.ID + "/" + o.Gateway.Incarnation,
		partitions: o.Partitions, maxPayload: o.MaxPayload, now: time.Now,
	}
	for range o.Shards {
		u.shards = append(u.shards, &shard{queue: newQueue(), of: u, durable: o.Log, fanout: f})
	}
	return u
}

// shard is the one that all entries of the endpoint go through.
func (u *uplinks) shard(endpoint fleet.DeviceID) *shard {
	return u.shards[fleet.Partition(endpoint, len(u.shards))]
}

// uplink is an entry of the log.
func (u *uplinks) uplink(endpoint fleet.DeviceID, epoch int64, kind command.UplinkKind, payload []byte) command.Uplink {
	return command.Uplink{
		Partition: fleet.Partition(endpoint, u.partitions),
		Endpoint:  endpoint,
		Epoch:     epoch,
		Gateway:   u.gateway,
		Kind:      kind,
		Payload:   payload,
	}
}

// take takes an uplink of s over. It waits, in the reader of s alone, while s has too much that is not yet appended, so
// that nobody fills the shard before others; and at QoS 1 (id is not 0) while the shard is full, where QoS 0 is shed. It
// fails when ctx is done.
func (u *uplinks) take(ctx context.Context, s *session, kind command.UplinkKind, payload []byte, id uint16) error {
	sender := s.who.endpoint
	if fault.Bug(fault.BugSenderByWord) {
		sender = byItsOwnWord(payload, sender)
	}
	e := entry{
		uplink: u.uplink(sender, s.epoch.Load(), kind, payload),
		from:   s, id: id, taken: u.now(),
	}
	fault.Point(fault.UplinkRead)
	e.units = min(1+int64(len(payload)/unitBytes), windowUnits)
	if err := s.window.Acquire(ctx, e.units); err != nil {
		return err
	}
	if id != 0 {
		if err := s.shard.put(ctx, e); err != nil {
			s.window.Release(e.units)
			return err
		}
		return nil
	}
	if !s.shard.offer(e, promiseless) {
		s.window.Release(e.units)
		u.metrics.shed.WithLabelValues("qos0").Inc()
	}
	return nil
}

// hint is an entry about s that may be shed.
func (s *session) hint(kind command.UplinkKind, payload []byte) entry {
	u := s.shard.of
	return entry{uplink: u.uplink(s.who.endpoint, s.epoch.Load(), kind, payload), taken: u.now()}
}

// hint appends what the gateway saw, or sheds it under pressure; it does not wait.
func (u *uplinks) hint(endpoint fleet.DeviceID, epoch int64, kind command.UplinkKind, payload []byte) {
	e := entry{uplink: u.uplink(endpoint, epoch, kind, payload), taken: u.now()}
	if !u.shard(endpoint).offer(e, hintShare) {
		u.metrics.shed.WithLabelValues(string(kind)).Inc()
	}
}

// delivered notes that the endpoint acknowledged a message.
func (u *uplinks) delivered(s *session, messageID string) {
	if !s.shard.hold(s, messageID, hintShare, u.now()) {
		u.metrics.shed.WithLabelValues(string(command.UplinkDelivered)).Inc()
	}
}

// flush waits until everything taken so far has been appended and acknowledged.
func (u *uplinks) flush(ctx context.Context) error {
	for _, s := range u.shards {
		if err := s.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}

// run commits until ctx is done. What is in the queue by then is not appended: flush before.
func (s *shard) run(ctx context.Context) {
	for {
		entries, ok := s.queue.take(ctx)
		if !ok {
			return
		}
		for len(entries) > 0 {
			n := batchOf(entries)
			if n < len(entries) {
				fair(entries)
				n = batchOf(entries)
			}
			err := s.guarded(ctx, entries[:n])
			entries = entries[n:]
			if err != nil {
				n = s.overdue(entries)
				s.drop(entries[:n], err)
				entries = entries[n:]
			}
			if len(entries) > 0 {
				entries = append(entries, s.queue.more()...)
			}
		}
	}
}

// overdue moves entries that have waited as long as anybody may while the log was failing to the front, and says how many
// they are: they are not tried.
func (s *shard) overdue(entries []entry) int {
	now := s.of.now()
	late := func(e entry) bool { return e.barrier == nil && now.Sub(e.taken) >= appendPatience }
	slices.SortStableFunc(entries, func(a, b entry) int {
		switch {
		case late(a) == late(b):
			return 0
		case late(a):
			return -1
		}
		return 1
	})
	n := slices.IndexFunc(entries, func(e entry) bool { return !late(e) })
	if n < 0 {
		return len(entries)
	}
	return n
}

// batchOf says how many of the entries travel together.
func batchOf(entries []entry) int {
	bytes := 0
	for i := range entries {
		if bytes += len(entries[i].uplink.Payload); i > 0 && bytes > batchBytes || i == batchEntries {
			return i
		}
	}
	return len(entries)
}

// guarded is commit. Whatever panics below it, the batch comes to its end.
func (s *shard) guarded(ctx context.Context, batch []entry) error {
	done := false
	err := s.of.guard.call("commit", func() error {
		err := s.commit(ctx, batch)
		done = true
		return err
	})
	if !done {
		s.drop(batch, err)
	}
	return err
}

// commit appends a batch, then acknowledges it. When the log does not take it, the clients are stopped without an
// acknowledgement: they send again. A batch that makes the log panic is halved until what it cannot bear is alone.
func (s *shard) commit(ctx context.Context, batch []entry) error {
	uplinks := make([]command.Uplink, 0, len(batch))
	for i := range batch {
		if batch[i].barrier == nil && !batch[i].lost() {
			uplinks = append(uplinks, batch[i].uplink)
		}
	}
	if fault.Bug(fault.BugPubackFirst) {
		s.acknowledge(batch)
	}
	var err error
	if len(uplinks) > 0 {
		err = s.append(ctx, uplinks)
	}
	switch {
	case errors.Is(err, errPanic) && len(batch) > 1:
		half := len(batch) / 2
		return errors.Join(s.commit(ctx, batch[:half]), s.commit(ctx, batch[half:]))
	case err != nil:
		s.drop(batch, err)
		return err
	}
	fault.Point(fault.UplinkAppended)
	if !fault.Bug(fault.BugPubackFirst) {
		s.acknowledge(batch)
	}
	fault.Point(fault.UplinkAcknowledged)
	s.fanout.offer(batch)
	s.finish(batch)
	return nil
}

// drop gives a batch up.
func (s *shard) drop(batch []entry, cause error) {
	if len(batch) > 0 {
		s.abandon(batch, cause)
		s.finish(batch)
	}
}

// finish gives back what the batch held and tells those who wait for it. What has been finished is not again.
func (s *shard) finish(batch []entry) {
	s.queue.done(batch)
	for i := range batch {
		if e := &batch[i]; e.barrier != nil {
			close(e.barrier)
			e.barrier = nil
		}
	}
}

// release gives back what the entry takes of its session's window.
func (e *entry) release() {
	if e.from != nil {
		e.from.window.Release(e.units)
		e.units = 0
	}
}

// lost says that an earlier uplink of the same session could not be appended: to append this one would change the
// order in which they are sent again.
func (e *entry) lost() bool { return e.from != nil && e.from.failed.Load() }

func (s *shard) append(ctx context.Context, uplinks []command.Uplink) error {
	m := s.of.metrics
	ctx, cancel := context.WithTimeout(ctx, appendPatience)
	defer cancel()
	for delay := retryFirst; ; delay = min(2*delay, retryMost) {
		began := time.Now()
		err := s.durable.Append(ctx, uplinks)
		if err == nil {
			m.appendSeconds.Observe(time.Since(began).Seconds())
			m.batchSize.Observe(float64(len(uplinks)))
			return nil
		}
		m.appendFailures.Inc()
		if errors.Is(err, errPanic) {
			return err // it would again
		}
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return err
		}
	}
}

// acknowledge writes the PUBACKs of a batch, per client in order and in one write.
func (s *shard) acknowledge(batch []entry) {
	var clients []*session
	m, now := s.of.metrics, s.of.now()
	for i := range batch {
		e := &batch[i]
		if e.barrier != nil || e.lost() {
			e.release()
			continue
		}
		m.uplinks[e.uplink.Kind].Inc()
		switch {
		case e.from == nil:
			continue
		case e.id == 0:
			e.release()
			continue
		}
		m.pubackSeconds.Observe(now.Sub(e.taken).Seconds())
		if len(e.from.acks) == 0 {
			clients = append(clients, e.from)
		}
		e.from.acks = append(e.from.acks, e.id)
		e.from.units += e.units
		e.units = 0
	}
	for _, c := range clients {
		_ = c.link.puback(c.acks) // a client that is gone sends again
		c.window.Release(c.units)
		c.acks, c.units = c.acks[:0], 0
	}
}

// abandon gives up a batch that the log did not take.
func (s *shard) abandon(batch []entry, cause error) {
	var stopped int
	for i := range batch {
		e := &batch[i]
		switch {
		case e.barrier != nil:
		case e.from == nil:
			s.of.metrics.shed.WithLabelValues(string(e.uplink.Kind)).Inc()
		case e.id == 0:
			s.of.metrics.shed.WithLabelValues("qos0").Inc()
			e.release()
		default:
			if e.from.failed.CompareAndSwap(false, true) {
				stopped++
				s.of.metrics.stopped.WithLabelValues("append_failed").Inc()
				s.of.flapping.excuse(e.from)
				e.from.link.stop(packets.ErrServerBusy)
			}
			e.release()
		}
	}
	if !errors.Is(cause, context.Canceled) {
		s.of.log.Error("cannot append to the uplink log: clients are disconnected without an acknowledgement",
			"clients", stopped, "entries", len(batch), "error", cause)
	}
}

// byItsOwnWord is what a gateway would take for the sender that believed payloads.
func byItsOwnWord(payload []byte, otherwise fleet.DeviceID) fleet.DeviceID {
	const field = `"device_id":"`
	_, rest, found := bytes.Cut(payload, []byte(field))
	id, _, whole := bytes.Cut(rest, []byte(`"`))
	if !found || !whole {
		return otherwise
	}
	return fleet.DeviceID(id)
}

// topicOf is where an uplink was published.
func topicOf(u command.Uplink) string {
	return mqtt.UplinkTopic(u.Endpoint, mqtt.Channel(u.Kind))
}
