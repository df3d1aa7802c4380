package cluster

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"meterline/fault"
	"meterline/testkit"
	"meterline/testkit/proxy"
)

// Node is a gateway or a backend.
type Node struct {
	*testkit.App
	Name    string // gateway-1, backend-2
	Address string // what clients connect to, through Front: MQTT of a gateway, HTTP of a backend
	HTTP    string // health and metrics, and the API of a backend, past the proxies

	// The ways in and out; nil with Options.Direct.
	Front    *proxy.Proxy // from clients
	Back     *proxy.Proxy // from backends; gateways only
	Postgres *proxy.Proxy // to PostgreSQL
	Redis    *proxy.Proxy // to Redis

	// Programs is the directory of the program that it runs; Upgrade changes it.
	Programs string

	api     bool
	program string // gateway or backend
	plan    string // the file that METERLINE_FAULTS names
}

// newNode makes the ways of a node to the servers and its place to answer for health.
func (c *Cluster) newNode(name string) (*Node, error) {
	n := &Node{Name: name, plan: filepath.Join(c.Dir, name+".faults.json")}
	var err error
	if n.HTTP, err = testkit.FreeAddress(); err != nil {
		return nil, err
	}
	if c.opt.Direct {
		return n, nil
	}
	if n.Postgres, err = c.way(hostOf(c.Postgres.URL)); err != nil {
		return nil, err
	}
	n.Redis, err = c.way(c.Redis.Addr)
	return n, err
}

// way makes a proxy to target.
func (c *Cluster) way(target string) (*proxy.Proxy, error) {
	addr, err := testkit.FreeAddress()
	if err != nil {
		return nil, err
	}
	p, err := proxy.New(addr, target)
	if err != nil {
		return nil, err
	}
	c.onClose(p.Close)
	return p, nil
}

func (c *Cluster) newGateway(name string) (*Node, error) {
	n, err := c.newNode(name)
	if err != nil {
		return nil, err
	}
	mqtt, err := testkit.FreeAddress()
	if err != nil {
		return nil, err
	}
	back := mqtt
	if n.Address = mqtt; !c.opt.Direct {
		if n.Front, err = c.way(mqtt); err != nil {
			return nil, err
		}
		if n.Back, err = c.way(mqtt); err != nil {
			return nil, err
		}
		n.Address, back = n.Front.Addr(), n.Back.Addr()
	}
	c.run(n, "gateway", append([]string{"--id", name, "--mqtt", mqtt, "--advertise", back, "--http", n.HTTP, "--uplink", c.opt.Uplink}, c.opt.GatewayArgs...))
	return n, nil
}

func (c *Cluster) newBackend(name, roles string) (*Node, error) {
	n, err := c.newNode(name)
	if err != nil {
		return nil, err
	}
	n.api = strings.Contains(roles, "api")
	if n.Address = n.HTTP; !c.opt.Direct {
		if n.Front, err = c.way(n.HTTP); err != nil {
			return nil, err
		}
		n.Address = n.Front.Addr()
	}
	c.run(n, "backend", append([]string{"serve", "--id", name, "--roles", roles, "--http", n.HTTP, "--request-rate", "0"}, c.opt.BackendArgs...))
	return n, nil
}

// run makes the process of a node, without starting it.
func (c *Cluster) run(n *Node, program string, args []string) {
	database, redis := c.DatabaseURL, c.Redis.Addr
	if n.Postgres != nil {
		database, redis = through(database, n.Postgres.Addr()), n.Redis.Addr()
	}
	n.program, n.Programs = program, c.Programs
	n.App = testkit.NewApp(testkit.AppOptions{
		Name: n.Name, Dir: c.Dir,
		Argv: append([]string{filepath.Join(c.Programs, program)}, args...),
		Env: append(environ(), "METERLINE_DATABASE_URL="+database, "METERLINE_REDIS_URL=redis://"+redis+"/0",
			"METERLINE_FAULTS="+n.plan),
		Listens: []string{n.HTTP},
		Ready:   func(ctx context.Context) error { return n.ask(ctx, "/livez", nil) },
	})
	c.onClose(n.Kill)
}

// WaitReady waits until the node says that it is ready: that it reaches what it needs.
func (n *Node) WaitReady(ctx context.Context) error {
	return until(ctx, n.Name+" is ready", func() error {
		err := n.Ready(ctx)
		if err != nil {
			err = errors.Join(err, n.Ended())
		}
		return err
	})
}

const askWithin = 5 * time.Second

// ask gets a page of the node's own.
func (n *Node) ask(ctx context.Context, path string, read func(io.Reader) error) error {
	ctx, stop := context.WithTimeout(ctx, askWithin)
	defer stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+path, nil)
	if err != nil {
		return err
	}
	request.Close = true // a node that is started again is not asked on the old connection
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s: status %d", n.Name, path, answer.StatusCode)
	}
	if read == nil {
		return nil
	}
	return read(answer.Body)
}

// Metric is the value of a metric, summed over its labels; 0 when there is none of that name.
func (n *Node) Metric(ctx context.Context, name string) (sum float64, err error) {
	err = n.ask(ctx, "/metrics", func(body io.Reader) error {
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			line := lines.Text()
			at := strings.LastIndexByte(line, ' ')
			if rest, ok := strings.CutPrefix(line, name); !ok || at < 0 || rest[0] != ' ' && rest[0] != '{' {
				continue
			}
			v, err := strconv.ParseFloat(line[at+1:], 64)
			if err != nil {
				return err
			}
			sum += v
		}
		return lines.Err()
	})
	return sum, err
}

// Arm makes p what the process suffers from now on, also after a restart; within 20 ms. It needs a build with the tag
// faults.
func (n *Node) Arm(p fault.Plan) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.plan+".new", text, 0o600); err != nil {
		return fmt.Errorf("arm %s: %w", n.Name, err)
	}
	if err := os.Rename(n.plan+".new", n.plan); err != nil {
		return fmt.Errorf("arm %s: %w", n.Name, err)
	}
	return nil
}

// Hits lists what the process was really hit by so far, over all its restarts.
func (n *Node) Hits() ([]fault.Hit, error) {
	text, err := os.ReadFile(n.plan + ".hits")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var hits []fault.Hit
	for line := range bytes.Lines(text) {
		var h fault.Hit
		if json.Unmarshal(line, &h) == nil { // the last one may be half written
			hits = append(hits, h)
		}
	}
	return hits, nil
}

// WaitDown waits until the process has ended by itself.
func (n *Node) WaitDown(ctx context.Context) error {
	return until(ctx, n.Name+" has ended", func() error {
		if pid := n.PID(); pid != 0 {
			return fmt.Errorf("process %d is there", pid)
		}
		return nil
	})
}

const askEvery = 50 * time.Millisecond

// until asks again until cond has no complaint.
func until(ctx context.Context, what string, cond func() error) error {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		err := cond()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w: %w", what, ctx.Err(), err)
		}
	}
}

// Ready asks once whether the node reaches what it needs.
func (n *Node) Ready(ctx context.Context) error { return n.ask(ctx, "/readyz", nil) }

// errDirect is the error of breaking connections that have no proxy.
var errDirect = errors.New("the cluster was started without proxies")

// Cut resets the node's connections to PostgreSQL and Redis; it may connect again at once.
func (n *Node) Cut() error {
	if n.Postgres == nil {
		return errDirect
	}
	n.Postgres.Reset()
	n.Redis.Reset()
	return nil
}

// Hold lets nothing through between the node and the servers, either way, until Heal.
func (n *Node) Hold() error {
	if n.Postgres == nil {
		return errDirect
	}
	for _, p := range []*proxy.Proxy{n.Postgres, n.Redis} {
		p.Set(proxy.Up, proxy.Link{Flow: proxy.Stall})
		p.Set(proxy.Down, proxy.Link{Flow: proxy.Stall})
	}
	return nil
}

// Heal makes all the node's ways whole again.
func (n *Node) Heal() error {
	var errs []error
	for _, p := range []*proxy.Proxy{n.Front, n.Back, n.Postgres, n.Redis} {
		if p != nil {
			errs = append(errs, p.Heal())
		}
	}
	return errors.Join(errs...)
}

// Upgrade ends the node in order and starts it with the program in another directory.
func (n *Node) Upgrade(ctx context.Context, programs string) error {
	if err := n.Stop(); err != nil {
		return err
	}
	n.Use(filepath.Join(programs, n.program))
	n.Programs = programs
	if err := n.Start(); err != nil {
		return err
	}
	return n.WaitReady(ctx)
}

// API says whether the node answers the HTTP API.
func (n *Node) API() bool { return n.api }
