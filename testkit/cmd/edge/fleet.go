//go:build linux

package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"meterline/meterread"
	"meterline/mqtt"
	"meterline/testkit"
	"meterline/testkit/packet"
)

const (
	sources     = 200 // addresses that devices come from
	connectWith = 64  // connections made at the same time, where nothing else is asked for
)

// device is one endpoint and its connection. Its reader is a goroutine that sleeps while nothing comes.
type device struct {
	fleet  *fleet
	n      int
	who    packet.Account
	source string
	up     string // topic of its uplinks
	down   string // topic of its commands

	mu      sync.Mutex // held while writing
	session *session   // nil: not connected
	lastID  uint16
	waits   map[uint16]uint64 // keys of round trips that end with the PUBACK of that packet id
}

// fleet is the devices of one case on one broker.
type fleet struct {
	target  *target
	devices []*device
	round   atomic.Pointer[rounds] // nil: nothing is measured
	lost    atomic.Int64           // connections that ended though nobody here closed them
	bytes   atomic.Int64           // of payload that devices were sent
	key     atomic.Uint64
	readers sync.WaitGroup
}

func newFleet(t *target, n int) *fleet {
	f := &fleet{target: t}
	for i := range n {
		id := deviceID(i)
		f.devices = append(f.devices, &device{
			fleet: f, n: i, who: packet.Account{Client: string(id), User: string(id), Password: secretOf(i)}, source: sourceOf(i),
			up: mqtt.UplinkTopic(id, mqtt.Event), down: mqtt.CommandTopic(id),
		})
	}
	return f
}

func deviceID(i int) meterread.DeviceID { return meterread.DeviceID(fmt.Sprintf("edge-%05d", i)) }

// secretOf has the form of real ones: 32 bytes in base64url.
func secretOf(i int) string {
	sum := sha256.Sum256([]byte(strconv.Itoa(i)))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// sourceOf spreads devices over addresses that no attacker uses, so that neither ports run out nor limits per address
// take them for one.
func sourceOf(i int) string { return "127.0.0." + strconv.Itoa(20+i%sources) }

// connect brings devices in, some at a time.
func (f *fleet) connect(ctx context.Context, devices []*device) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(connectWith)
	for _, d := range devices {
		group.Go(func() error {
			if err := insist(ctx, func() error { return d.connect(ctx) }); err != nil {
				return fmt.Errorf("%s: %w", d.who.Client, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// insist tries again what a broker may refuse for a moment, where it is not what is measured.
func insist(ctx context.Context, try func() error) (err error) {
	for range 10 {
		if err = try(); err == nil || testkit.Pause(ctx, time.Second) != nil {
			break
		}
	}
	return err
}

// close takes all devices away at once and waits for their readers.
func (f *fleet) close() {
	for _, d := range f.devices {
		d.close()
	}
	f.readers.Wait()
}

// connect signs in, subscribes and starts to read.
func (d *device) connect(ctx context.Context) error {
	s, err := dial(ctx, d.fleet.target.addr, d.source, 0, d.who)
	if err != nil {
		return err
	}
	if err := s.subscribe(d.down); err != nil {
		_ = s.conn.Close()
		return err
	}
	d.mu.Lock()
	d.session, d.waits = s, map[uint16]uint64{}
	d.mu.Unlock()
	d.fleet.readers.Go(func() { d.read(s) })
	return nil
}

func (d *device) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session != nil {
		_ = d.session.conn.Close()
		d.session = nil
	}
}

// read handles what comes until the connection is over.
func (d *device) read(s *session) {
	for {
		p, err := readPacket(s.r)
		if err != nil {
			break
		}
		switch p.kind {
		case packet.Publish:
			d.command(s, p)
		case packet.Puback:
			d.acknowledged(p.id)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == s { // nobody here closed it
		d.session = nil
		d.fleet.lost.Add(1)
		_ = s.conn.Close()
	}
}

// uplink publishes a small event: a round trip that ends with its PUBACK.
func (d *device) uplink(due time.Time) {
	if r := d.fleet.round.Load(); r != nil {
		key := 2*d.fleet.key.Add(1) + 1
		r.of(key).begin(key, due)
		d.send(key)
	}
}

var event = []byte(`{"v":1,"type":"alarm","data":{"text":"the cover was opened"}}`)

// send publishes an event, under a packet id that stands for the round trip.
func (d *device) send(key uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.session == nil {
		return // stays unfinished
	}
	if d.lastID++; d.lastID == 0 {
		d.lastID = 1
	}
	d.waits[d.lastID] = key
	_, _ = d.session.conn.Write(packet.AppendPublish(nil, d.lastID, d.up, event)) // an error ends the reader, which counts it
}

func (d *device) acknowledged(id uint16) {
	d.mu.Lock()
	key, ok := d.waits[id]
	delete(d.waits, id)
	d.mu.Unlock()
	if r := d.fleet.round.Load(); ok && r != nil {
		r.of(key).end(key)
	}
}

// command acknowledges a command and, where a round trip hangs on it, answers it.
func (d *device) command(s *session, p received) {
	d.fleet.bytes.Add(int64(p.size))
	d.mu.Lock()
	if d.session == s && p.id != 0 {
		_, _ = s.conn.Write(packet.AppendPuback(nil, p.id))
	}
	d.mu.Unlock()
	if key, ok := keyOf(p.head); ok && key != 0 {
		d.send(key)
	}
}

const commandHead = `{"v":1,"message_id":"`

// commandPayload is a command of at least the size; key is the round trip that hangs on it, 0 where none does.
func commandPayload(key uint64, size int) []byte {
	b := append(make([]byte, 0, max(size, 200)), commandHead...)
	b = hex.AppendEncode(b, []byte{
		byte(key >> 56), byte(key >> 48), byte(key >> 40), byte(key >> 32), byte(key >> 24), byte(key >> 16), byte(key >> 8), byte(key),
	})
	b = append(b, `","message_type":"unicast","kind":"device.ping","params":{"pad":"`...)
	for len(b) < size-3 {
		b = append(b, 'x')
	}
	return append(b, `"}}`...)
}

func keyOf(head []byte) (uint64, bool) {
	const digits = 16
	if len(head) < len(commandHead)+digits || string(head[:len(commandHead)]) != commandHead {
		return 0, false
	}
	key, err := strconv.ParseUint(string(head[len(commandHead):len(commandHead)+digits]), 16, 64)
	return key, err == nil
}
