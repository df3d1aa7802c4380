package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/command"
	"meterline/fleet"
)

func TestFair(t *testing.T) {
	var entries []entry
	for _, s := range strings.Fields("a1 a2 a3 b1 | B1 b2 c1 a4") { // B is large; | is a barrier
		e := entry{uplink: command.Uplink{Endpoint: fleet.DeviceID(s[:1]), Payload: []byte(s)}}
		switch s {
		case "|":
			e = entry{barrier: make(chan struct{}), id: 1}
		case "B1":
			e.uplink.Payload = append([]byte(s), make([]byte, 2*unitBytes)...)
		}
		entries = append(entries, e)
	}
	fair(entries)
	var got []string
	for _, e := range entries {
		if e.barrier != nil {
			got = append(got, "|")
			continue
		}
		got = append(got, string(e.uplink.Payload[:2]))
	}
	if want := strings.Fields("a1 b1 B1 c1 a2 b2 a3 | a4"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// A device floods with large messages; whoever has one small message waits for the append that is going on and for its own.
func TestAFloodTakesOnlyWhatOthersLeave(t *testing.T) {
	r := start(t, func(o *Options) { o.Shards = 1 })
	step := make(chan struct{})
	goOn := sync.OnceFunc(func() { close(step) })
	defer goOn()
	r.log.onAppend(func(context.Context, []command.Uplink) error { // whatever its patience: each append is one step
		<-step
		return nil
	})
	flooder := r.connect(t, dev("d1"))
	flooder.publish("meterline/v1/d1/up/event", "first", 1, 1)
	for id := uint16(2); id < 15; id++ {
		flooder.publish("meterline/v1/d1/up/event", strings.Repeat("x", 250<<10), 1, id)
	}
	flooder.ping() // the queue holds it all
	other := r.connect(t, dev("d2"))
	for i := range 2 { // four appends: the flood is enough for them, however it is divided
		other.publish("meterline/v1/d2/up/event", fmt.Sprint(i), 1, uint16(i+1))
		other.ping()
		step <- struct{}{}
		step <- struct{}{}
		for {
			pk := other.expect(packets.Puback)
			if int(pk.PacketID) == i+1 {
				break
			}
		}
	}
	if n := len(r.log.all()); n > 5+4*3 {
		t.Errorf("%d entries are appended: nothing was left to wait for", n)
	}
	goOn()
	for id := uint16(1); id < 15; id++ {
		if ack := flooder.expect(packets.Puback); ack.PacketID != id {
			t.Fatalf("PUBACK %d for %d", ack.PacketID, id)
		}
	}
}
