//go:build linux

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"meterline/testkit"
	"meterline/testkit/packet"
)

func TestMain(m *testing.M) {
	if status, is := child(os.Args[1:], os.Stdout, os.Stderr); is {
		os.Exit(status) // a process that a case has started
	}
	status := m.Run()
	if programsDir != "" {
		_ = os.RemoveAll(programsDir)
	}
	os.Exit(status)
}

// programs builds gateway and backend once.
var (
	programsDir string
	programs    = sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "meterline-edge-bin-")
		if err != nil {
			return "", err
		}
		programsDir = dir
		if out, err := exec.Command("go", "build", "-o", dir, "meterline/cmd/gateway", "meterline/cmd/backend").CombinedOutput(); err != nil {
			return "", &exec.Error{Name: "go build: " + string(out), Err: err}
		}
		return dir, nil
	})
)

// small runs a case in its small form and gives what it wrote. Where a case may be void for want of time, that is not
// held against it.
func small(t *testing.T, rows any, args ...string) (printed string, found finding) {
	t.Helper()
	t.Setenv(testkit.EnvPostgresURL, "") // the tool starts its own
	t.Setenv(testkit.EnvRedisAddr, "")
	_, _ = testkit.Postgres(t), testkit.Redis(t) // not installed: skipped, or failed
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	status := run(t.Context(), append(args, "--bin", bin, "--json", file), &stdout, &stderr)
	written, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("status %d: %v: %s", status, err, stderr.String())
	}
	out := struct {
		report
		Findings []struct {
			finding
			Rows json.RawMessage `json:"rows"`
		} `json:"findings"`
	}{}
	if err := json.Unmarshal(written, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Findings) != 1 || out.Machine.Cores < 1 || out.Seconds <= 0 {
		t.Fatalf("status %d, report %s: %s", status, written, stderr.String())
	}
	found = out.Findings[0].finding
	if want := min(len(found.Void), 1); status != want {
		t.Errorf("status %d, want %d: %s", status, want, stderr.String())
	}
	if err := json.Unmarshal(out.Findings[0].Rows, rows); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(stdout.String(), "\n| "); n != len(found.Table.Cells)+1 {
		t.Errorf("%d lines of a table are printed, want the head and %d:\n%s", n, len(found.Table.Cells), stdout.String())
	}
	return stdout.String(), found
}

// there checks that times were measured and make sense. How many more there are is the machine's affair.
func there(t *testing.T, what string, f figures, atLeast int) {
	t.Helper()
	if f.N < atLeast || f.P50 <= 0 || f.P99 < f.P50 || f.Max < f.P99 {
		t.Errorf("%s: %+v, want at least %d times", what, f, atLeast)
	}
}

func TestStall(t *testing.T) {
	var rows []stallRow
	_, found := small(t, &rows, "stall", "--clients=20", "--stalled=2", "--duration=1s", "--uplinks-every=100ms", "--large-every=200ms")
	if len(rows) != 6 {
		t.Fatalf("%d rows, want three phases of two brokers", len(rows))
	}
	for _, row := range rows {
		what := row.Broker + ", " + row.Phase
		there(t, what+", uplinks", row.Uplinks, 18*2)
		there(t, what+", commands", row.Commands, 15)
		if row.Lost != 0 || row.Closed > 2 || row.Times < row.Closed || row.MemoryMiB < 1 {
			t.Errorf("%s: %+v", what, row)
		}
	}
	if last := rows[2]; last.Broker != "gateway" || (last.Closed < 2) != (found.Void != "") {
		t.Errorf("%d of 2 were closed by the %s, and the case is void for %q", last.Closed, last.Broker, found.Void)
	}
}

func TestAttack(t *testing.T) {
	var rows []attackRow
	_, found := small(t, &rows, "attack", "--before=1s", "--duration=2s", "--after=1s", "--sockets=40", "--rate=200", "--patience=2s")
	if len(rows) != 6 || found.Void != "" {
		t.Fatalf("%d rows, want three phases of two brokers; void: %q", len(rows), found.Void)
	}
	for i, row := range rows {
		seconds := []int{1, 2, 1}[i%3]
		there(t, row.Broker+", "+row.Phase, row.figures, 3*seconds)
		if len(row.Worst) != seconds || len(row.FailedIn) != seconds || row.Files == 0 || (row.Attack != nil) != (row.Phase == "attack") {
			t.Errorf("%+v", row)
		}
		if h := row.Attack; h != nil && (h.Opened < h.Most || h.Most == 0 || h.Most > 2*40) {
			t.Errorf("attackers: %+v", h)
		}
	}
	if h := rows[4].Attack; rows[4].Broker != "plain mochi" || h.Most != 2*40 || h.Closed != 0 {
		t.Errorf("plain mochi lets every socket be: %+v", h)
	}
}

func TestMemory(t *testing.T) {
	var rows []memoryRow
	_, found := small(t, &rows, "memory", "--clients=50", "--settle=1s")
	if len(rows) != 2 || found.Void != "" {
		t.Fatalf("%d rows, want two; void: %q", len(rows), found.Void)
	}
	for _, row := range rows {
		if row.Clients != 50 || row.Before.RSS < 1<<20 || row.Connected.RSS < 1<<20 || row.Settled.Heap <= 0 || row.Settled.Stack <= 0 ||
			row.Settled.Goroutines < 50 || row.PerClient == 0 { // of those before some were only there to begin
			t.Errorf("%+v", row)
		}
	}
}

func TestReconnect(t *testing.T) {
	var rows []reconnectRow
	_, found := small(t, &rows, "reconnect", "--clients=50", "--age=0s", "--retry=100ms")
	if len(rows) != 6 || found.Void != "" {
		t.Fatalf("%d rows, want four of the gateway and two of plain mochi; void: %q", len(rows), found.Void)
	}
	for _, row := range rows {
		there(t, row.Broker+", "+row.Cut, row.figures, 50)
		if row.Back != 50 || row.Seconds <= 0 || row.CPU < 0 {
			t.Errorf("%+v", row)
		}
	}
}

func TestFlood(t *testing.T) {
	var rows []floodRow
	_, found := small(t, &rows, "flood", "--clients=20", "--duration=1s", "--uplinks-every=100ms")
	if len(rows) != 10 || found.Void != "" {
		t.Fatalf("%d rows, want five phases of two brokers; void: %q", len(rows), found.Void)
	}
	for i, row := range rows {
		there(t, row.Broker+", "+row.Phase+", uplinks", row.Uplinks, 30)
		there(t, row.Broker+", "+row.Phase+", commands", row.Commands, 10)
		phase := i % 5
		for name, c := range map[string]struct {
			n     int64
			wants bool
		}{
			"QoS 1": {row.Acked, phase == 1 || phase == 4}, "QoS 0": {row.Sent, phase == 2 || phase == 4}, "flaps": {row.Flaps, phase == 3 || phase == 4},
		} {
			if (c.n > 0) != c.wants {
				t.Errorf("%s, %s: %s %d", row.Broker, row.Phase, name, c.n)
			}
		}
	}
}

// Where somebody else has the address of its metrics, and answers there, a broker is not believed to be up.
func TestAddressThatIsTaken(t *testing.T) {
	t.Parallel()
	broker, err := (&rig{home: t.TempDir()}).mochi()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", broker.web)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	err = broker.during(func(*target) error { return errors.New("it is said to be up") })
	if err == nil || !strings.Contains(err.Error(), "exit status 1") || !strings.HasSuffix(err.Error(), "address already in use") {
		t.Errorf("%v, want status and last words", err)
	}
}

// Where a case fails because its broker has ended by itself, that is said.
func TestBrokerThatEnds(t *testing.T) {
	t.Parallel()
	r := &rig{home: t.TempDir()}
	failed := errors.New("connection refused")
	for want, during := range map[string]func(*target) error{
		"connection refused": func(*target) error { return failed },
		"signal: killed": func(b *target) error {
			if err := syscall.Kill(b.PID(), syscall.SIGKILL); err != nil {
				return err
			}
			testkit.Eventually(t, time.Minute, func() bool { return b.PID() == 0 }, "the broker to end")
			return failed
		},
	} {
		broker, err := r.mochi()
		if err != nil {
			t.Fatal(err)
		}
		err = broker.during(during)
		if !errors.Is(err, failed) || !strings.HasSuffix(strings.TrimSpace(err.Error()), want) {
			t.Errorf("%v, want what failed, and at the end %q", err, want)
		}
	}
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"no-such-case"}, {"stall", "--no-such-flag"}, {"flood", "more"}, {"all", "--clients=1"}} {
		var stderr bytes.Buffer
		if status := run(t.Context(), args, &stderr, &stderr); status != 2 || stderr.Len() == 0 {
			t.Errorf("%q: status %d, %q; want 2 and why", args, status, stderr.String())
		}
	}
}

func TestFiguresOf(t *testing.T) {
	t.Parallel()
	var times []time.Duration
	for i := 200; i > 0; i-- {
		times = append(times, time.Duration(i)*time.Millisecond)
	}
	if f := figuresOf(times, 3); f != (figures{N: 200, Unfinished: 3, P50: 100, P99: 198, Max: 200}) {
		t.Errorf("%+v", f)
	}
	if f := figuresOf(nil, 0); f != (figures{}) {
		t.Errorf("of nothing: %+v", f)
	}
}

func TestRecorderCountsWhatNeverEnds(t *testing.T) {
	t.Parallel()
	r := newRecorder()
	r.begin(1, time.Now())
	r.begin(2, time.Now().Add(-time.Minute))
	r.end(1)
	r.end(3) // never begun
	if f := r.close(); f.N != 2 || f.Unfinished != 1 || f.Max < 60_000 {
		t.Errorf("%+v, want two, one of them a minute old and unfinished", f)
	}
}

func TestReadPacket(t *testing.T) {
	t.Parallel()
	payload := commandPayload(0xABCDEF, 5000)
	wire := append(packet.AppendPublish(nil, 7, "a/topic", payload), packet.AppendPuback(nil, 0x1234)...)
	r := bufio.NewReaderSize(bytes.NewReader(append(wire, packet.AppendPublish(nil, 0, "t", nil)...)), 512)
	p, err := readPacket(r)
	key, ok := keyOf(p.head)
	if err != nil || p.kind != packet.Publish || p.id != 7 || p.size != len(payload) || !ok || key != 0xABCDEF {
		t.Errorf("PUBLISH: %+v, key %x, %v", p, key, err)
	}
	if p, err = readPacket(r); err != nil || p.kind != packet.Puback || p.id != 0x1234 {
		t.Errorf("PUBACK: %+v, %v", p, err)
	}
	if p, err = readPacket(r); err != nil || p.kind != packet.Publish || p.id != 0 || p.size != 0 {
		t.Errorf("PUBLISH at QoS 0: %+v, %v", p, err)
	}
	if !json.Valid(payload) || len(payload) != 5000 {
		t.Errorf("a command of %d bytes: %s", len(payload), payload[:100])
	}
}
