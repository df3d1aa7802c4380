package interop

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"meterline/testkit"
)

// mosquitto runs mosquitto_sub for a client's subscriptions and mosquitto_pub for whatever it publishes, in a session of
// its own beside it: so a person would do it.
type mosquitto struct{ stdbuf, sub, pub string }

func newMosquitto(t *testing.T) driver {
	return mosquitto{
		stdbuf: testkit.Program(t, "stdbuf", "coreutils"),
		sub:    testkit.Program(t, "mosquitto_sub", "mosquitto-clients"),
		pub:    testkit.Program(t, "mosquitto_pub", "mosquitto-clients"),
	}
}

func (mosquitto) traits(v variant) traits {
	return traits{leavesWill: v.version == "5", twoSessions: true}
}

func (m mosquitto) connect(ctx context.Context, v variant, to address, as login) (client, error) {
	c := &mosquittoClient{pub: m.pub, arguments: arguments(v, to, as), id: as.id, inbox: newInbox()}
	if as.filters == nil {
		return c, nil // mosquitto_pub connects when there is something to say
	}
	return c, c.listen(ctx, m, v, as)
}

// arguments are what both programs are given.
func arguments(v variant, to address, as login) []string {
	a := []string{"-h", to.host, "-p", to.port, "-V", strings.ReplaceAll(v.version, ".", "")}
	if v.transport == "tls" {
		a = append(a, "--cafile", to.ca)
	}
	if as.user != "" {
		a = append(a, "-u", as.user, "-P", as.password)
	}
	return a
}

type mosquittoClient struct {
	pub       string
	arguments []string
	id        string
	inbox
	qos  []byte
	sub  *exec.Cmd     // nil without subscriptions
	gone chan struct{} // closed when it has ended
	said bytes.Buffer  // its standard error; complete when it is gone
}

// listen starts mosquitto_sub and waits until it is told what it is granted.
func (c *mosquittoClient) listen(ctx context.Context, m mosquitto, v variant, as login) error {
	// It keeps what -d tells to itself until a message comes, when its output is not a terminal: stdbuf sees to that.
	c.sub = exec.Command(m.stdbuf, slices.Concat([]string{"-oL", m.sub}, c.arguments, subscribing(v, as))...)
	c.sub.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.sub.Stderr = &c.said
	out, err := c.sub.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.sub.Start(); err != nil {
		return err
	}
	granted := make(chan []byte, 1)
	c.gone = make(chan struct{})
	go func() {
		defer close(c.gone)
		c.read(bufio.NewScanner(out), granted)
		_ = c.sub.Wait() // what it died of is on its standard error
	}()
	select {
	case c.qos = <-granted:
		return nil
	case <-c.gone:
		return fmt.Errorf("mosquitto_sub: %s", strings.TrimSpace(c.said.String()))
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("wait for mosquitto_sub to subscribe: %w", ctx.Err()), c.kill(context.Background()))
	}
}

func subscribing(v variant, as login) []string {
	a := []string{"-i", as.id, "-d", "-F", "%j"}
	for _, f := range as.filters {
		a = append(a, "-q", strconv.Itoa(int(f.QoS)), "-t", f.Topic) // one QoS for all: the last
	}
	if as.keep {
		a = append(a, "-c")
	}
	if as.keep && v.version == "5" {
		a = append(a, "-x", "3600")
	}
	if w := as.will; w != nil {
		a = append(a, "--will-topic", w.Topic, "--will-payload", w.Payload, "--will-qos", strconv.Itoa(int(w.QoS)))
	}
	if as.will != nil && as.will.Retain {
		a = append(a, "--will-retain")
	}
	return a
}

// subscribed is the line of mosquitto_sub -d that tells the granted QoS.
var subscribed = regexp.MustCompile(`^Subscribed \(mid: \d+\): ([\d, ]+)$`)

// read takes the lines of mosquitto_sub apart: messages are JSON, all else is what -d tells.
func (c *mosquittoClient) read(lines *bufio.Scanner, granted chan<- []byte) {
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := subscribed.FindSubmatch(lines.Bytes()); m != nil {
			var qos []byte
			for q := range strings.SplitSeq(string(m[1]), ", ") {
				n, _ := strconv.Atoi(q) // the pattern has digits only
				qos = append(qos, byte(n))
			}
			granted <- qos
		}
		var got struct {
			message
			Retain int `json:"retain"`
		}
		if json.Unmarshal(lines.Bytes(), &got) == nil {
			got.message.Retain = got.Retain == 1
			c.inbox <- got.message
		}
	}
}

// publish runs mosquitto_pub: once for messages that differ in nothing but a payload of one line, else once for each.
func (c *mosquittoClient) publish(ctx context.Context, messages ...message) error {
	if len(messages) > 1 && alike(messages) {
		var lines strings.Builder
		for _, m := range messages {
			lines.WriteString(m.Payload + "\n")
		}
		return c.run(ctx, messages[0], lines.String(), "-l")
	}
	for _, m := range messages {
		from := "-s"
		if m.Payload == "" {
			from = "-n"
		}
		if err := c.run(ctx, m, m.Payload, from); err != nil {
			return err
		}
	}
	return nil
}

func alike(messages []message) bool {
	for _, m := range messages {
		if m.Payload == "" || strings.Contains(m.Payload, "\n") {
			return false
		}
		if m.Payload = messages[0].Payload; m != messages[0] {
			return false
		}
	}
	return true
}

func (c *mosquittoClient) run(ctx context.Context, m message, stdin, from string) error {
	a := append(slices.Clip(c.arguments), "-i", c.id+":hand", "-t", m.Topic, "-q", strconv.Itoa(int(m.QoS)), from)
	if m.Retain {
		a = append(a, "-r")
	}
	pub := exec.CommandContext(ctx, c.pub, a...)
	pub.Stdin = strings.NewReader(stdin)
	out, err := pub.CombinedOutput() // silent when all is well
	if err != nil || len(out) > 0 {
		return fmt.Errorf("mosquitto_pub: %w: %s", cmp.Or(ctx.Err(), err, errComplained), bytes.TrimSpace(out))
	}
	return nil
}

// errComplained is the error of a program that did its work, and not without a word.
var errComplained = errors.New("it complained")

func (c *mosquittoClient) granted() []byte      { return c.qos }
func (c *mosquittoClient) present() (_, _ bool) { return false, false }

func (c *mosquittoClient) disconnect(ctx context.Context) error {
	return c.end(ctx, syscall.SIGTERM)
}

func (c *mosquittoClient) kill(ctx context.Context) error { return c.end(ctx, syscall.SIGKILL) }

func (c *mosquittoClient) end(ctx context.Context, by syscall.Signal) error {
	if c.sub == nil {
		return nil
	}
	_ = c.sub.Process.Signal(by) // it may have ended
	select {
	case <-c.gone:
		return nil
	case <-ctx.Done():
		_ = c.sub.Process.Kill()
		<-c.gone
		return fmt.Errorf("mosquitto_sub did not end: %w", ctx.Err())
	}
}
