// Package cluster starts the whole system as it runs in production, as real processes on loopback: PostgreSQL, Redis,
// several gateways and several backends, with a TCP proxy in every connection between them. Any of them can be killed,
// paused and started again, keeps its addresses, and logs to a file of its own.
package cluster

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"meterline/testkit"
)

// Options say what to start.
type Options struct {
	Gateways int    // default 2
	Backends int    // default 2
	Uplink   string // which log gateways append to: redis (default) or store
	// Roles are those of each backend; what is missing is api,work.
	Roles []string
	Build Build
	// Direct leaves the proxies out.
	Direct bool
	// Dir is for the logs; default: a directory that goes with the cluster.
	Dir string

	GatewayArgs, BackendArgs []string // more flags
}

func (o Options) filled() Options {
	if o.Gateways == 0 {
		o.Gateways = 2
	}
	if o.Backends == 0 {
		o.Backends = 2
	}
	if o.Uplink == "" {
		o.Uplink = "redis"
	}
	return o
}

// Cluster is a running system.
type Cluster struct {
	// Fixed after construction.
	Gateways, Backends []*Node
	Postgres           *testkit.PostgresServer
	Redis              *testkit.RedisServer
	DatabaseURL        string  // not through a proxy
	DB                 *sql.DB // of DatabaseURL: to look, not to change
	Token              string  // of tenant acme, scope admin
	Dir                string  // of the logs
	Programs           string  // directory of the binaries

	opt   Options
	close []func() error // in the order in which things were started
}

// Start builds the programs, starts everything and returns when all of it is ready.
func Start(ctx context.Context, o Options) (c *Cluster, err error) {
	c = &Cluster{opt: o.filled()}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
			c = nil
		}
	}()
	for _, step := range []func(context.Context) error{c.build, c.servers, c.prepare, c.nodes} {
		if err := step(ctx); err != nil {
			return c, err
		}
	}
	return c, c.WaitReady(ctx)
}

// Close ends everything that was started. The logs go, too, unless Options said where to keep them.
func (c *Cluster) Close() error {
	var errs []error
	for _, end := range slices.Backward(c.close) {
		errs = append(errs, end())
	}
	c.close = nil
	return errors.Join(errs...)
}

func (c *Cluster) onClose(end func() error) { c.close = append(c.close, end) }

func (c *Cluster) build(ctx context.Context) (err error) {
	if c.Programs, err = c.opt.Build.Programs(ctx); err != nil {
		return err
	}
	dir, remove, err := testkit.Scratch("cluster")
	if err != nil {
		return err
	}
	c.Dir = dir
	c.onClose(remove)
	if c.opt.Dir == "" {
		return nil
	}
	if c.Dir, err = filepath.Abs(c.opt.Dir); err != nil {
		return err
	}
	return os.MkdirAll(c.Dir, 0o750)
}

func (c *Cluster) servers(context.Context) (err error) {
	if c.Postgres, err = testkit.StartPostgres(); err != nil {
		return err
	}
	c.onClose(c.Postgres.Close)
	if c.Redis, err = testkit.StartRedis(); err != nil {
		return err
	}
	c.onClose(c.Redis.Close)
	if c.DatabaseURL, err = testkit.NewDatabase(c.Postgres.URL, "cluster"); err != nil {
		return err
	}
	if c.DB, err = sql.Open("postgres", c.DatabaseURL); err != nil {
		return err
	}
	c.onClose(c.DB.Close)
	return nil
}

// prepare migrates and makes the token.
func (c *Cluster) prepare(ctx context.Context) error {
	if _, err := c.Backend(ctx, "migrate"); err != nil {
		return err
	}
	out, err := c.Backend(ctx, "token", "create", "--tenant", "acme", "--scopes", "admin")
	c.Token = strings.TrimSpace(out)
	return err
}

// Backend runs a subcommand of backend to its end, such as token, and gives what it printed.
func (c *Cluster) Backend(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(c.Programs, "backend"), args...)
	var stderr bytes.Buffer
	cmd.Env = append(environ(), "METERLINE_DATABASE_URL="+c.DatabaseURL, "METERLINE_REDIS_URL=redis://"+c.Redis.Addr+"/0")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("backend %s: %w: %s", args[0], err, stderr.String())
	}
	return string(out), nil
}

// environ is that of this process without what would be taken for flags.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "METERLINE_") })
}

func (c *Cluster) nodes(context.Context) error {
	for i := range c.opt.Gateways {
		n, err := c.newGateway(fmt.Sprintf("gateway-%d", i+1))
		if err != nil {
			return err
		}
		c.Gateways = append(c.Gateways, n)
	}
	for i := range c.opt.Backends {
		roles := "api,work"
		if i < len(c.opt.Roles) {
			roles = c.opt.Roles[i]
		}
		n, err := c.newBackend(fmt.Sprintf("backend-%d", i+1), roles)
		if err != nil {
			return err
		}
		c.Backends = append(c.Backends, n)
	}
	return c.each((*Node).Start)
}

// Uplink is which log gateways append to: redis or store.
func (c *Cluster) Uplink() string { return c.opt.Uplink }

// Nodes are the gateways and the backends.
func (c *Cluster) Nodes() []*Node { return slices.Concat(c.Gateways, c.Backends) }

// each does something with all nodes side by side.
func (c *Cluster) each(do func(*Node) error) error {
	nodes := c.Nodes()
	errs := make([]error, len(nodes))
	var all sync.WaitGroup
	for i, n := range nodes {
		all.Go(func() { errs[i] = do(n) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// WaitReady waits until every node that runs says that it is ready.
func (c *Cluster) WaitReady(ctx context.Context) error {
	return c.each(func(n *Node) error {
		if n.PID() == 0 {
			return nil
		}
		return n.WaitReady(ctx)
	})
}

// API lists where the API answers, such as http://127.0.0.1:20001.
func (c *Cluster) API() []string {
	var all []string
	for _, n := range c.Backends {
		if n.api {
			all = append(all, "http://"+n.Address)
		}
	}
	return all
}

// Metrics lists where all processes show what they count, such as http://127.0.0.1:20001/metrics.
func (c *Cluster) Metrics() []string {
	var all []string
	for _, n := range c.Nodes() {
		all = append(all, "http://"+n.HTTP+"/metrics")
	}
	return all
}

// MQTT lists where devices connect to.
func (c *Cluster) MQTT() []string {
	var all []string
	for _, n := range c.Gateways {
		all = append(all, n.Address)
	}
	return all
}

// Find gives the node of that name, such as gateway-1; nil when there is none.
func (c *Cluster) Find(name string) *Node {
	for _, n := range c.Nodes() {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// through is a URL with another host.
func through(original, host string) string {
	u, err := url.Parse(original)
	if err != nil {
		return original
	}
	u.Host = host
	return u.String()
}

// hostOf is where the server of a URL listens.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}
