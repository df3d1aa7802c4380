package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"meterline/testkit"
)

// mqttJS drives mqtt.js of npm: one Node.js process for all clients, which is told what to do in lines of JSON. See
// testkit/mqttjs/driver.js.
type mqttJS struct {
	stdin io.Writer
	ended chan struct{} // the process says nothing any more

	mu      sync.Mutex // also keeps requests apart on stdin
	last    int
	waiting map[int]chan json.RawMessage
	clients map[string]*jsClient
}

func newMQTTJS(t *testing.T) driver {
	node := testkit.Node(t, "testkit/mqttjs", filepath.Join("..", "..", "testkit", "mqttjs", "driver.js"))
	node.Stderr = os.Stderr
	stdin, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	d := &mqttJS{stdin: stdin, ended: make(chan struct{}), waiting: map[int]chan json.RawMessage{}, clients: map[string]*jsClient{}}
	if err := node.Start(); err != nil {
		t.Fatal(err)
	}
	go d.read(bufio.NewScanner(stdout))
	t.Cleanup(func() {
		_ = stdin.Close()
		<-d.ended
		if err := node.Wait(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// read hands answers to those who wait for them and messages to their clients.
func (d *mqttJS) read(lines *bufio.Scanner) {
	defer close(d.ended)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var said struct {
			Seq     int
			Client  string
			Message *message
		}
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
			panic(fmt.Sprintf("%v: %q", err, lines.Bytes())) // a fault of driver.js
		}
		d.mu.Lock()
		if said.Message != nil {
			d.clients[said.Client].inbox <- *said.Message
		} else {
			d.waiting[said.Seq] <- json.RawMessage(append([]byte(nil), lines.Bytes()...))
			delete(d.waiting, said.Seq)
		}
		d.mu.Unlock()
	}
}

// ask sends a request and decodes the answer to it.
func (d *mqttJS) ask(ctx context.Context, op, client string, request map[string]any, answer any) error {
	reply := make(chan json.RawMessage, 1)
	d.mu.Lock()
	d.last++
	request["seq"], request["op"], request["client"] = d.last, op, client
	d.waiting[d.last] = reply
	line, err := json.Marshal(request)
	if err == nil {
		_, err = d.stdin.Write(append(line, '\n'))
	}
	d.mu.Unlock()
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	select {
	case line := <-reply:
		var failed struct{ Error string }
		if err := json.Unmarshal(line, &failed); err != nil || failed.Error != "" {
			return errors.Join(fmt.Errorf("%s: %s", op, failed.Error), err)
		}
		return json.Unmarshal(line, answer)
	case <-d.ended:
		return fmt.Errorf("%s: node has ended", op)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
}

func (*mqttJS) traits(variant) traits { return traits{tellsPresent: true} }

func (d *mqttJS) connect(ctx context.Context, v variant, to address, as login) (client, error) {
	c := &jsClient{driver: d, inbox: newInbox()}
	d.mu.Lock()
	c.name = fmt.Sprint(as.id, "#", len(d.clients))
	d.clients[c.name] = c
	d.mu.Unlock()
	var connected struct {
		Present bool `json:"session_present"`
	}
	if err := d.ask(ctx, "connect", c.name, map[string]any{"url": to.url, "options": options(v, to, as)}, &connected); err != nil {
		return nil, err
	}
	c.had = connected.Present
	if c.had || as.filters == nil {
		return c, nil
	}
	var got struct{ Granted []int }
	err := d.ask(ctx, "subscribe", c.name, map[string]any{"filters": as.filters}, &got)
	for _, qos := range got.Granted {
		c.qos = append(c.qos, byte(qos))
	}
	return c, err
}

// options are those of mqtt.connect.
func options(v variant, to address, as login) map[string]any {
	o := map[string]any{"protocolVersion": 5, "clientId": as.id, "clean": !as.keep}
	if v.transport == "tls" {
		o["ca"] = to.ca
	}
	if as.user != "" {
		o["username"], o["password"] = as.user, as.password
	}
	if as.keep {
		o["properties"] = map[string]any{"sessionExpiryInterval": 3600}
	}
	if as.will != nil {
		o["will"] = as.will
	}
	return o
}

type jsClient struct {
	driver *mqttJS
	name   string
	inbox
	qos []byte
	had bool
}

func (c *jsClient) publish(ctx context.Context, messages ...message) error {
	return c.ask(ctx, "publish", map[string]any{"messages": messages})
}

func (c *jsClient) granted() []byte               { return c.qos }
func (c *jsClient) present() (present, told bool) { return c.had, true }
func (c *jsClient) disconnect(ctx context.Context) error {
	return c.ask(ctx, "disconnect", map[string]any{})
}
func (c *jsClient) kill(ctx context.Context) error { return c.ask(ctx, "kill", map[string]any{}) }

func (c *jsClient) ask(ctx context.Context, op string, request map[string]any) error {
	return c.driver.ask(ctx, op, c.name, request, &struct{}{})
}
