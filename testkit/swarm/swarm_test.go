//go:build linux

package swarm

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/testkit"
	"meterline/testkit/packet"
)

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }

// accounts are those of n devices.
func accounts(n int) []packet.Account {
	var all []packet.Account
	for i := range n {
		id := fmt.Sprintf("d-%d", i)
		all = append(all, packet.Account{Client: id, User: id, Password: "p"})
	}
	return all
}

// stage is a null peer and a swarm, and as much time as a test may take.
func stage(t *testing.T, n *Null, o Options) (*Swarm, context.Context) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	var served sync.WaitGroup
	served.Go(func() {
		if err := n.Serve(ctx, l); err != nil {
			t.Error(err)
		}
	})
	o.Address = l.Addr().String()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); stop(); served.Wait() })
	return s, ctx
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestPublish(t *testing.T) {
	s, ctx := stage(t, &Null{}, Options{Accounts: accounts(50), Silent: true})
	must(t, s.Connect(ctx))
	must(t, s.Publish(ctx, 30, 20))
	must(t, s.Publish(ctx, 1, 1))
	if c := s.Counts(); c.There != 50 || c.Sent != 50*31 || c.Acked != c.Sent || c.Uplinks != c.Sent || c.Lost+c.Refused+c.Commands != 0 {
		t.Errorf("%+v", c)
	}
}

func TestCall(t *testing.T) {
	s, ctx := stage(t, &Null{}, Options{Accounts: accounts(20)})
	must(t, s.Connect(ctx))
	must(t, s.Call(ctx, packet.Account{Client: "b", User: "backend", Password: "p"}, 30))
	if c := s.Counts(); c.Commands != 20*30 || c.Acked != 20*30 || c.Sent != c.Acked {
		t.Errorf("%+v", c)
	}
}

// Of a command of 120 targets each is answered, in three messages of at most 50.
func TestAnswer(t *testing.T) {
	s, ctx := stage(t, &Null{Calls: 4, Targets: 120}, Options{Accounts: accounts(10)})
	must(t, s.Run(ctx, func() bool { return s.Counts().Acked == 10*4*120 }))
	if c := s.Counts(); c.Commands != 40 || c.Sent != 40*120 || c.Uplinks != 40*3 || !s.Quiet() {
		t.Errorf("%+v", c)
	}
}

// Devices come back, and hand in again what was not acknowledged.
func TestComeBack(t *testing.T) {
	s, ctx := stage(t, &Null{}, Options{Accounts: accounts(10), Silent: true})
	must(t, s.Connect(ctx))
	s.Leave()
	if c := s.Counts(); c.There != 0 {
		t.Errorf("%+v", c)
	}
	must(t, s.Publish(ctx, 3, 2)) // nobody is there
	for _, d := range s.devices {
		d.todo = 2
		s.window = 2
		s.look(d)
		s.publish(d) // into buffers: nothing is written before settle
		s.lose(d, errRefused)
	}
	must(t, s.Run(ctx, s.Quiet))
	if c := s.Counts(); c.Lost != 10 || c.Sent != 50 || c.Acked != 50 || c.There != 10 {
		t.Errorf("%+v", c)
	}
}

// A swarm that nobody lets in says why.
func TestRefused(t *testing.T) {
	addr, err := testkit.FreeAddress()
	must(t, err)
	s, err := New(Options{Address: addr, Accounts: accounts(1)})
	must(t, err)
	defer s.Close()
	ctx, stop := context.WithCancel(t.Context())
	err = s.until(ctx, "one is refused", func() bool {
		if s.Counts().Refused > 0 {
			stop()
		}
		return false
	})
	if err == nil || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
}

// A result is what the wire format asks for, and its reading tells its number.
func TestResult(t *testing.T) {
	s, err := New(Options{Address: "127.0.0.1:1", Accounts: accounts(1)})
	must(t, err)
	defer s.Close()
	d := s.devices[0]
	s.answer(d, []byte(`{"v":1,"command_id":"c-1","attempt":3,"items":[],"targets":[{"device_id":"d-0","route":[{"bus":"com1"}]}]}`))
	if len(d.flying) != 1 {
		t.Fatalf("%d messages", len(d.flying))
	}
	at := s.Began().Add(time.Microsecond).Format(readAtForm)
	want := `{"v":1,"message_id":"s1","results":[{"command_id":"c-1","device_id":"d-0","attempt":3,"status":"ok","final":true,` +
		`"readings":[{"item":"1-0:1.8.0","value":"1","unit":"kWh","read_at":"` + at + `"}]}]}`
	if got := string(d.flying[0].frame); !strings.HasSuffix(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
