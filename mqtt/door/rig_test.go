package door

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/testkit"
)

func TestMain(m *testing.M) { testkit.NoGoroutineLeft(m) }

const waitMost = time.Minute

// rig is a door behind which everybody is served as serve says.
type rig struct {
	*Door
	registry *prometheus.Registry

	mu   sync.Mutex
	open map[*Conn]struct{}
}

// begin serves until the end of the test.
func begin(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	r := &rig{registry: prometheus.NewRegistry(), open: map[*Conn]struct{}{}}
	o := Options{
		Listeners: []Listen{{Name: "tcp", Address: "127.0.0.1:0"}}, Backlog: 1 << 20,
		Logger: slog.New(slog.DiscardHandler), Registerer: r.registry,
		Say: func(slog.Level, string, string, ...any) {}, Guard: func(_ string, f func()) { f() },
	}
	for _, f := range change {
		f(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Door = d
	var listeners sync.WaitGroup
	for _, l := range d.Listeners() {
		listeners.Go(func() { l.Serve(r.serve) })
	}
	if o.Certificates != nil {
		listeners.Go(func() { d.Run(t.Context()) })
	}
	t.Cleanup(func() {
		r.end()
		listeners.Wait()
		d.Wait()
	})
	return r
}

// serve answers each byte by itself, in the rest. '+' admits the client first, '-' ends the connection.
func (r *rig) serve(c *Conn) (rest func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = struct{}{}
	return func() { r.answer(c) }
}

func (r *rig) answer(c *Conn) {
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.open, c)
	}()
	for b := make([]byte, 1); ; {
		if _, err := io.ReadFull(c, b); err != nil || b[0] == '-' {
			return
		}
		if b[0] == '+' {
			c.Admitted()
		}
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// end stops the door, and wakes whoever reads.
func (r *rig) end() {
	r.Stop()
	for _, c := range r.all() {
		_ = c.SetReadDeadline(time.Unix(1, 0))
	}
}

// all are the connections that are served now.
func (r *rig) all() (all []*Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		all = append(all, c)
	}
	return all
}

func (r *rig) address(name string) string {
	for _, l := range r.Listeners() {
		if l.Spec().Name == name {
			return l.Address()
		}
	}
	return ""
}

// metric sums a counter or gauge over the labels, or over those with one value.
func (r *rig) metric(t testing.TB, name string, label ...string) float64 {
	t.Helper()
	families, err := r.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != "meterline_mqtt_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			if len(label) == 0 || m.GetLabel()[0].GetValue() == label[0] {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (r *rig) awaitMetric(t testing.TB, want float64, name string, label ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s%v is %v", name, label, want), func() bool { return r.metric(t, name, label...) >= want })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Eventually(t, waitMost, ok, what)
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// from opens a connection from an address of ours.
func from(t testing.TB, local, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: waitMost}
	conn, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(2 * waitMost))
	return conn
}

// says wants what is said to be answered.
func says(conn io.ReadWriter, what string) error {
	if _, err := io.WriteString(conn, what); err != nil {
		return err
	}
	answer := make([]byte, len(what))
	if _, err := io.ReadFull(bufio.NewReader(conn), answer); err != nil {
		return err
	}
	if string(answer) != what {
		return fmt.Errorf("%q was answered %q", what, answer)
	}
	return nil
}

func TestAConnectionIsHandedOver(t *testing.T) {
	r := begin(t)
	conn := from(t, "127.0.0.1", r.address("tcp"))
	if err := says(conn, "hello"); err != nil {
		t.Fatal(err)
	}
	if open, places := r.metric(t, "connections"), r.metric(t, "connections_unadmitted"); open != 1 || places != 1 {
		t.Errorf("%v connections, %v of them not admitted", open, places)
	}
	if err := says(conn, "+"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its place is free", func() bool { return r.metric(t, "connections_unadmitted") == 0 })
	r.Stop() // whoever was admitted stays
	if err := says(conn, strings.Repeat("x", 1000)); err != nil {
		t.Error(err)
	}
	if _, err := net.DialTimeout("tcp", r.address("tcp"), waitMost); err == nil {
		t.Error("somebody comes in after Stop")
	}
	_, _ = conn.Write([]byte("-"))
	if rest, err := io.ReadAll(conn); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
	eventually(t, "it is over", func() bool { return r.metric(t, "connections") == 0 })
}

// What comes before admission ends with the door, and nothing begins any more.
func TestStopClosesWhoIsNotAdmitted(t *testing.T) {
	r := begin(t)
	conn := from(t, "127.0.0.1", r.address("tcp"))
	if err := says(conn, "x"); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if _, err := conn.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("read: %v", err)
	}
	r.Wait()
	if r.start(func() { t.Error("something begins") }) {
		t.Error("something may begin")
	}
}
