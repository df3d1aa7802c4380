package interop

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

// fence is a block of docs/clients.md that has a name behind its language.
var fence = regexp.MustCompile("(?ms)^```(sh|go|js) (service|device|certificates)\n(.*?)^```$")

// blocks are the named blocks of the page, by language and name.
func blocks(t *testing.T) map[string]string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, m := range fence.FindAllStringSubmatch(string(page), -1) {
		found[m[1]+" "+m[2]] = m[3]
	}
	if len(found) != 7 {
		t.Fatalf("the page has %d named blocks, want service and device in sh, go and js, and certificates", len(found))
	}
	return found
}

// The certificates of the page are good for 127.0.0.1.
func TestDocumentedCertificates(t *testing.T) {
	t.Parallel()
	testkit.Program(t, "openssl", "openssl")
	c := exec.Command("bash", "-euc", blocks(t)["sh certificates"])
	c.Dir = t.TempDir()
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(c.Dir, "server.pem"), filepath.Join(c.Dir, "server.key"))
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(filepath.Join(c.Dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "127.0.0.1"}); err != nil {
		t.Error(err)
	}
}

// languages are how the programs of the page are run.
var languages = map[string]func(t *testing.T, name, text string) *exec.Cmd{
	"sh": func(t *testing.T, _, text string) *exec.Cmd {
		testkit.Program(t, "mosquitto_sub", "mosquitto-clients")
		testkit.Program(t, "jq", "jq")
		return exec.Command("bash", "-euc", text)
	},
	"go": func(t *testing.T, name, text string) *exec.Cmd {
		source := filepath.Join(t.TempDir(), name+".go")
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		program := strings.TrimSuffix(source, ".go")
		if out, err := exec.Command("go", "build", "-o", program, source).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return exec.Command(program)
	},
	"js": func(t *testing.T, name, text string) *exec.Cmd {
		source := filepath.Join(t.TempDir(), name+".js")
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return testkit.Node(t, "testkit/mqttjs", source)
	},
}

// examples runs the programs of the page: the service client sees the reading of the device, and the device answers a command.
func examples(t *testing.T, e *estate) {
	page := blocks(t)
	for language, prepare := range languages {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			service, device := prepare(t, "service", page[language+" service"]), prepare(t, "device", page[language+" device"])
			for _, transport := range []string{"tcp", "tls"} {
				t.Run(transport, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if err := e.example(ctx, t, transport, *service, *device); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

func (e *estate) example(ctx context.Context, t *testing.T, transport string, service, device exec.Cmd) error {
	b := &bench{estate: e, role: "device"}
	meter, err := b.meter(ctx)
	if err != nil {
		return err
	}
	token, err := e.token(ctx)
	if err != nil {
		return err
	}
	to := e.address(transport)
	env := []string{"BROKER=-h " + to.host + " -p " + to.port, "URL=" + to.url, "ID=" + meter.id, "SECRET=" + meter.password, "TOKEN=" + token}
	if transport == "tls" {
		env[0] += " --cafile " + to.ca
		env = append(env, "CA="+to.ca)
	}
	seen := run(t, &service, env)
	run(t, &device, env)
	if err := b.stored(ctx, meter.id, "1234.5"); err != nil {
		return err
	}
	for { // the service client may have come too late for the first
		if err := b.read(ctx, meter.id); err != nil {
			return err
		}
		select {
		case line := <-seen:
			if strings.HasPrefix(line, "meterline/v1/"+meter.id+"/up/") {
				return nil
			}
		case <-time.After(time.Second):
		case <-ctx.Done():
			return fmt.Errorf("the service client saw nothing: %w", ctx.Err())
		}
	}
}

// read asks the meter for a reading and checks what it answers.
func (b *bench) read(ctx context.Context, meter string) error {
	id, err := b.issue(ctx, meter)
	if err != nil {
		return err
	}
	var v command.View
	if err := b.call(ctx, "GET", "/v1/commands/"+string(id)+"?wait=60", "", &v); err != nil {
		return err
	}
	if v.Status != command.StatusSucceeded || v.Operations[0].Readings[0].Value != "1234.6" {
		return fmt.Errorf("the command is %s: %+v", v.Status, v.Operations)
	}
	return nil
}

// token makes one for a service client, as the page does.
func (e *estate) token(ctx context.Context) (string, error) {
	var made struct{ Token string }
	err := e.call(ctx, "POST", "/v1/tokens", `{"name":"integrator","scopes":["mqtt"]}`, &made)
	return made.Token, err
}

// run starts a program of the page and gives the lines that it prints. It and its children end with the test.
func run(t *testing.T, c *exec.Cmd, env []string) <-chan string {
	t.Helper()
	if c.Env == nil {
		c.Env = os.Environ()
	}
	c.Env = append(c.Env[:len(c.Env):len(c.Env)], env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	lines, read := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(read)
		split(out, lines)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // a process group of our own
		<-read
		_ = c.Wait() // it was killed
		if t.Failed() {
			t.Logf("%v said: %s", c.Args[0], stderr.String())
		}
	})
	return lines
}

func split(from io.Reader, into chan<- string) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		into <- lines.Text()
	}
}
