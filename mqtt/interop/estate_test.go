package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"meterline/testkit"
)

// estate is a gateway and a backend as processes of their own, on a real PostgreSQL and a real Redis.
type estate struct {
	t       *testing.T
	bin     string // directory of the programs
	env     []string
	gateway map[string]string // its addresses by listener: mqtt, mqtt-tls, mqtt-ws
	http    string            // URL of the API
	admin   string            // token for the API
	service string            // token for service clients
	ca      string            // file
	pool    *x509.CertPool    // the same
}

// tenant is who owns the devices and the tokens.
const tenant = "acme"

func newEstate(t *testing.T) *estate {
	t.Helper()
	e := &estate{t: t, bin: t.TempDir()}
	out, err := exec.Command("go", "build", "-o", e.bin, "meterline/cmd/backend", "meterline/cmd/gateway").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	certs := newCertificates(t)
	e.ca, e.pool = certs.ca, certs.pool
	e.env = append(os.Environ(), "METERLINE_DATABASE_URL="+testkit.Postgres(t),
		"METERLINE_REDIS_URL=redis://"+testkit.RedisPrivate(t).Addr+"/0", "METERLINE_LOG_FORMAT=json")
	e.once("migrate")
	e.admin = e.once("token", "create", "--tenant", tenant, "--scopes", "admin")
	e.service = e.once("token", "create", "--tenant", tenant, "--scopes", "mqtt")
	e.start("gateway", "gateway is up", &e.gateway, "--http", "127.0.0.1:0", "--anonymous", "mqtt",
		"--mqtt", "127.0.0.1:0", "--mqtt-ws", "127.0.0.1:0", "--mqtt-tls", "127.0.0.1:0", "--tls-cert", certs.cert, "--tls-key", certs.key)
	e.start("backend", "backend is up", &struct{ HTTP *string }{&e.http}, "serve", "--http", "127.0.0.1:0", "--request-rate", "0")
	return e
}

// once runs a subcommand of backend to its end and gives what it prints.
func (e *estate) once(args ...string) string {
	e.t.Helper()
	c := exec.Command(filepath.Join(e.bin, "backend"), args...)
	var stderr bytes.Buffer
	c.Env, c.Stderr = e.env, &stderr
	out, err := c.Output()
	if err != nil {
		e.t.Fatalf("backend %v: %v: %s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// start starts a program, waits until it logs that it is up and decodes that record. It has to end in order, with the test.
func (e *estate) start(program, up string, record any, args ...string) {
	e.t.Helper()
	c := exec.Command(filepath.Join(e.bin, program), args...)
	c.Env, c.SysProcAttr = e.env, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := c.StderrPipe()
	if err != nil {
		e.t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		e.t.Fatal(err)
	}
	l := &log{up: up, ready: make(chan []byte, 1)}
	ended := make(chan error, 1)
	go func() {
		l.read(stderr)
		ended <- c.Wait()
	}()
	e.t.Cleanup(func() { l.end(e.t, program, c.Process, ended) })
	select {
	case line := <-l.ready:
		if err := json.Unmarshal(line, record); err != nil {
			e.t.Fatalf("%v: %s", err, line)
		}
	case err := <-ended:
		ended <- err
		e.t.Fatalf("%s: %v", program, err)
	case <-time.After(patience):
		e.t.Fatalf("%s is not up", program)
	}
}

// log is what a program says.
type log struct {
	up    string
	ready chan []byte // the record that says up

	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) read(from io.Reader) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if bytes.Contains(lines.Bytes(), []byte(`"msg":"`+l.up+`"`)) {
			l.ready <- bytes.Clone(lines.Bytes())
		}
		l.mu.Lock()
		l.text.Write(append(lines.Bytes(), '\n'))
		l.mu.Unlock()
	}
}

// end asks the program to end and shows what it said when something is wrong.
func (l *log) end(t *testing.T, program string, p *os.Process, ended <-chan error) {
	_ = p.Signal(syscall.SIGTERM) // it may have ended
	var err error
	select {
	case err = <-ended:
	case <-time.After(patience):
		_ = p.Kill()
		err = fmt.Errorf("killed, %s after SIGTERM: %w", patience, <-ended)
	}
	if err != nil {
		t.Errorf("%s ended: %v", program, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.Failed() || strings.Contains(l.text.String(), "DATA RACE") || strings.Contains(l.text.String(), "panic") {
		t.Logf("%s said:\n%s", program, l.text.String())
	}
}

// address is where and how to connect.
type address struct {
	host, port string
	url        string // with the scheme of the transport: mqtt, mqtts or ws
	ca         string // file; whom to trust with TLS
	pool       *x509.CertPool
}

func (e *estate) address(transport string) address {
	listener, scheme := "mqtt", "mqtt"
	switch transport {
	case "tls":
		listener, scheme = "mqtt-tls", "mqtts"
	case "ws":
		listener, scheme = "mqtt-ws", "ws"
	}
	at := e.gateway[listener]
	host, port, _ := net.SplitHostPort(at)
	return address{host: host, port: port, url: scheme + "://" + at, ca: e.ca, pool: e.pool}
}

// call asks the API and decodes its answer.
func (e *estate) call(ctx context.Context, method, path, body string, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, e.http+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+e.admin)
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, path, response.Status, b)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}

// device registers a direct meter and gives its secret.
func (e *estate) device(ctx context.Context, id string) (secret string, err error) {
	var made struct{ Credentials struct{ Password string } }
	err = e.call(ctx, "POST", "/v1/devices", `{"id":"`+id+`","name":"`+id+`","kind":"direct"}`, &made)
	return made.Credentials.Password, err
}
