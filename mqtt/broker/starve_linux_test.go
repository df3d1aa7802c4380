package broker

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/testkit"
)

const starvingEnv = "BROKER_STARVES"

// TestStarvingProcess is the process that TestAProcessWithoutDescriptors starts, a broker that has very few; otherwise
// it does nothing.
func TestStarvingProcess(t *testing.T) {
	if os.Getenv(starvingEnv) == "" {
		return
	}
	r := start(t)
	r.connect(t, dev("d2"))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 40, Max: 40}); err != nil {
		t.Fatal(err)
	}
	fmt.Println("listening on", r.Addr("mqtt"))
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if strings.TrimSpace(line) == "errors" {
			fmt.Println(r.metric(t, "accept_errors_total"))
		}
	}
}

// A process that has run out of file descriptors for real goes on accepting, also while those who took them stay.
func TestAProcessWithoutDescriptors(t *testing.T) {
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestStarvingProcess$")
	child.Env = append(os.Environ(), starvingEnv+"=1")
	child.Stderr = os.Stderr
	ask, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	said := bufio.NewReader(out)
	line, err := said.ReadString('\n')
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	address := strings.TrimSpace(strings.TrimPrefix(line, "listening on "))
	var idle []net.Conn
	defer func() {
		for _, c := range idle {
			_ = c.Close()
		}
	}()
	for range 100 {
		c, err := from("127.0.0.2", address)
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, c)
	}
	pulse := testkit.StartPulse(t)
	for i := range 3 {
		began := time.Now()
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		c := say(t, conn, dev("d1"))
		c.expect(packets.Connack)
		t.Logf("device is in after %v", time.Since(began))
		if took := time.Since(began); took > pulse.Limit(4*time.Second) {
			t.Errorf("connect %d took %v", i, took)
		}
		_ = conn.Close()
	}
	_, _ = fmt.Fprintln(ask, "errors")
	var errors float64
	if _, err := fmt.Fscan(said, &errors); err != nil || errors == 0 {
		t.Errorf("%v errors of accept (%v): nothing was tested", errors, err)
	}
	_ = ask.Close()
	if err := child.Wait(); err != nil {
		t.Errorf("the broker ended with %v", err)
	}
}
