package broker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// The cost of the broker alone: its log and its presence take no time, and its clients are another process (see crowd), so
// that processor time and memory of this one are the broker's. CPU-µs/op counts user and kernel.
//
//	go test ./mqtt/broker -run xxx -bench . -benchtime 100000x

// A command goes out, and the device acknowledges and answers it; one at a time for each of 64 devices.
func BenchmarkRoundTrip(b *testing.B) { benchmark(b, roundTrips, 64) }

// 16 devices send uplinks, each with up to 20 that are not acknowledged.
func BenchmarkUplink(b *testing.B) { benchmark(b, uplinkers, 16) }

// 8 devices at a time connect, are admitted, say DISCONNECT and close.
func BenchmarkConnect(b *testing.B) { benchmark(b, comers, 8) }

// What a device costs that is connected, subscribed and idle. The number of iterations means nothing.
func BenchmarkIdleDevice(b *testing.B) {
	const devices = 4000
	r := benchRig(b, devices)
	before := footprint()
	c := gather(b, r, idlers, devices)
	after := footprint()
	for what, n := range after {
		b.ReportMetric((n-before[what])/devices, what+"/device")
	}
	b.ReportMetric(0, "ns/op")
	c.leave()
}

func benchmark(b *testing.B, what string, devices int) {
	b.Helper()
	r := benchRig(b, devices)
	c := gather(b, r, what, devices)
	c.do(b.N / 10) // what is made once has been made
	b.ReportAllocs()
	b.ResetTimer()
	began := processorTime()
	c.do(b.N)
	b.ReportMetric(float64((processorTime()-began).Nanoseconds())/1000/float64(b.N), "CPU-µs/op")
	b.StopTimer()
	c.leave()
}

// nowhere is a log, and presence, that take no time.
type nowhere struct{ *memSessions }

func (nowhere) Append(context.Context, []command.Uplink) error { return nil }

func (nowhere) Open(context.Context, command.Session) (int64, error) {
	return time.Now().UnixMicro(), nil
}

func (nowhere) Close(context.Context, command.Session) error { return nil }

func benchRig(b *testing.B, devices int) *rig {
	b.Helper()
	return start(b, func(o *Options) {
		n := nowhere{newMemSessions()}
		o.Log, o.Sessions = n, n
		known := o.Credentials.(*memCredentials)
		for i := range devices {
			known.set(device(fleet.DeviceID(benchDevice(i)), "t1", fleet.Direct))
		}
	})
}

func benchDevice(i int) string { return fmt.Sprintf("bench-%05d", i) }

// crew is the process that plays the clients.
type crew struct {
	b    *testing.B
	ask  io.WriteCloser
	said *bufio.Reader
	end  func() error
}

// gather starts it and waits until all are connected.
func gather(b *testing.B, r *rig, what string, devices int) *crew {
	b.Helper()
	child := exec.CommandContext(b.Context(), os.Args[0], "-test.run=^TestCrowd$")
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d", crowdEnv, what, r.Addr("mqtt"), devices))
	child.Stderr = os.Stderr
	ask, err := child.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := child.Start(); err != nil {
		b.Fatal(err)
	}
	c := &crew{b: b, ask: ask, said: bufio.NewReader(out), end: child.Wait}
	c.hear("ready")
	return c
}

func (c *crew) hear(want string) {
	c.b.Helper()
	if line, err := c.said.ReadString('\n'); err != nil || strings.TrimSpace(line) != want {
		c.b.Fatalf("the crowd said %q, not %q: %v", line, want, err)
	}
}

// do has n of what it is about done.
func (c *crew) do(n int) {
	c.b.Helper()
	if _, err := fmt.Fprintln(c.ask, n); err != nil {
		c.b.Fatal(err)
	}
	c.hear("done")
}

func (c *crew) leave() {
	c.b.Helper()
	_ = c.ask.Close()
	_, _ = io.Copy(io.Discard, c.said)
	if err := c.end(); err != nil {
		c.b.Error(err)
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var used syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// footprint is what this process holds, in bytes, when it has been idle for some collections.
func footprint() map[string]float64 {
	for range 4 { // stacks shrink by half at each
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	var pages, resident int
	statm, _ := os.ReadFile("/proc/self/statm")
	_, _ = fmt.Sscan(string(statm), &pages, &resident)
	return map[string]float64{
		"heap-B": float64(m.HeapAlloc), "stack-B": float64(m.StackInuse), "resident-B": float64(resident * os.Getpagesize()),
	}
}
