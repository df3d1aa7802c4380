package broker

import (
	"fmt"
	"net"
	"runtime"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/mqtt"
)

// A connected device is idle nearly all of its life, and its stack is most of what it costs then. The runtime halves a stack of
// which less than a quarter is used, 800 bytes of its own included: for one of 4 KiB, the frames of a waiting connection
// must not need more than 1.2 KiB.
func TestAWaitingEndpointNeedsLittleStack(t *testing.T) {
	const devices = 400
	most := uint64(4<<10 + 512)
	if raceDetector {
		most *= 2
	}
	known := func(i int) string { return fmt.Sprintf("still-%d", i) }
	r := start(t, func(o *Options) {
		for i := range devices {
			o.Credentials.(*memCredentials).set(device(fleet.DeviceID(known(i)), "t1", fleet.Direct))
		}
	})
	connect := func(from int) {
		for i := from; i < from+devices/2; i++ {
			conn, err := net.Dial("tcp", r.Addr("mqtt"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			c := say(t, conn, dev(known(i)))
			c.expect(packets.Connack)
			c.subscribe(mqtt.CommandTopic(fleet.DeviceID(known(i))), 1, 1)
			c.ping()
		}
	}
	stacks := func() uint64 {
		for range 4 { // they are halved once in each
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse
	}
	connect(0)
	before := stacks()
	connect(devices / 2)
	if each := (stacks() - before) / (devices / 2); each > most {
		t.Errorf("%d bytes of stack for each", each)
	}
}
