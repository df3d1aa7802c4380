//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"meterline/simulator"
	"meterline/testkit"
)

// importChunk is how many devices are registered by one request.
const importChunk = 5000

// rig is the servers and programs that cases stand on. One case uses it at a time.
type rig struct {
	log         io.Writer
	home        string
	bin         string // where gateway and backend are
	gatewayArgs []string
	withPlain   bool

	postgres   *testkit.PostgresServer
	token      string // of a service client with scope mqtt:admin
	admin      string // of whoever registers devices
	registered int
}

// newRig builds the programs, unless bin says where they are, and starts PostgreSQL.
func newRig(ctx context.Context, bin string, log io.Writer) (r *rig, err error) {
	r = &rig{log: log, withPlain: true}
	if r.home, err = os.MkdirTemp("", "meterline-edge-"); err != nil {
		return nil, fmt.Errorf("make a directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if bin != "" {
		if r.bin, err = filepath.Abs(bin); err != nil { // programs run in a directory of their own
			return r, err
		}
	} else {
		r.bin = r.home
		if out, err := exec.CommandContext(ctx, "go", "build", "-o", r.bin, "meterline/cmd/gateway", "meterline/cmd/backend").CombinedOutput(); err != nil {
			return r, fmt.Errorf("build the programs: %w\n%s", err, out)
		}
	}
	if r.postgres, err = testkit.StartPostgres(); err != nil {
		return r, err
	}
	if _, err = r.backend(ctx, "migrate"); err != nil {
		return r, err
	}
	if r.token, err = r.backend(ctx, "token", "create", "--tenant", "edge", "--scopes", "mqtt:admin"); err != nil {
		return r, err
	}
	r.admin, err = r.backend(ctx, "token", "create", "--tenant", "edge", "--scopes", "admin")
	return r, err
}

func (r *rig) close() error {
	var err error
	if r.postgres != nil {
		err = r.postgres.Close()
	}
	return errors.Join(err, os.RemoveAll(r.home))
}

func (r *rig) say(format string, args ...any) { fmt.Fprintf(r.log, "edge: "+format+"\n", args...) }

// env names the servers for the programs; Redis is there where one is given.
func (r *rig) env(redis *testkit.RedisServer) []string {
	env := append(os.Environ(), "METERLINE_DATABASE_URL="+r.postgres.URL)
	if redis != nil {
		env = append(env, "METERLINE_REDIS_URL=redis://"+redis.Addr+"/0")
	}
	return env
}

// backend runs a subcommand to its end and gives what it prints.
func (r *rig) backend(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(r.bin, "backend"), args...)
	var complaints strings.Builder
	cmd.Env, cmd.Stderr = r.env(nil), &complaints
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("backend %s: %w: %s", args[0], err, complaints.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// register makes sure that so many devices are registered, through the API of a backend that is gone afterwards.
func (r *rig) register(ctx context.Context, n int) error {
	if n <= r.registered {
		return nil
	}
	redis, err := testkit.StartRedis()
	if err != nil {
		return err
	}
	defer redis.Close() //nolint:errcheck // nothing of it is needed any more
	addr, err := testkit.FreeAddress()
	if err != nil {
		return err
	}
	p := r.app("backend", r.env(redis), []string{addr}, filepath.Join(r.bin, "backend"), "serve", "--roles", "api", "--http", addr)
	if err := p.Start(); err != nil {
		return err
	}
	defer p.Stop() //nolint:errcheck // its work is done
	api := simulator.NewAPI("http://"+addr, r.admin)
	defer api.Close()
	for r.registered < n {
		var chunk []simulator.Registration
		for i := r.registered; i < min(r.registered+importChunk, n); i++ {
			chunk = append(chunk, simulator.Registration{ID: deviceID(i), Kind: "direct", Enabled: true, Secret: secretOf(i)})
		}
		if err := api.Import(ctx, chunk); err != nil {
			return errors.Join(err, p.Ended())
		}
		r.registered += len(chunk)
	}
	return nil
}

// app is a program that logs below home and listens on addresses.
func (r *rig) app(name string, env, listens []string, argv ...string) *testkit.App {
	return testkit.NewApp(testkit.AppOptions{Name: name, Dir: r.home, Env: env, Listens: listens, Argv: argv})
}

// target is a broker to be measured.
type target struct {
	*testkit.App
	name  string
	ours  bool
	addr  string
	web   string               // where its metrics are
	token string               // password of user service
	redis *testkit.RedisServer // of a gateway
}

// onEach does a case on one broker after the other: a new gateway, then, unless it was declined, plain mochi.
func (r *rig) onEach(ctx context.Context, name string, do func(*target) error) error {
	all := []func() (*target, error){r.gateway}
	if r.withPlain {
		all = append(all, r.mochi)
	}
	for _, broker := range all {
		t, err := broker()
		if err != nil {
			return err
		}
		r.say("%s: %s", name, t.name)
		if err := t.during(do); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return ctx.Err()
}

// during does something with the broker up, and takes it down. Where that fails and the broker has ended by itself, its last
// words are told, too.
func (t *target) during(do func(*target) error) error {
	err := t.Start()
	if err == nil {
		if err = do(t); err != nil {
			err = errors.Join(err, t.Ended())
		}
	}
	return errors.Join(err, t.down())
}

// gateway is a gateway over a Redis of its own.
func (r *rig) gateway() (*target, error) {
	t, err := r.place("gateway", true)
	if err != nil {
		return nil, err
	}
	if t.redis, err = testkit.StartRedis(); err != nil {
		return nil, err
	}
	t.App = r.app(t.name, r.env(t.redis), []string{t.addr, t.web}, append([]string{filepath.Join(r.bin, "gateway"),
		"--id", "edge", "--mqtt", t.addr, "--http", t.web, "--log-level", "warn",
		"--flap-limit", "0", // a device that flaps is to go on: held off it would cost nothing
	}, r.gatewayArgs...)...)
	return t, nil
}

// mochi is this program once more, as a plain mochi broker.
func (r *rig) mochi() (*target, error) {
	t, err := r.place("plain mochi", false)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	t.App = r.app(t.name, os.Environ(), []string{t.addr, t.web}, self, plainMode, t.addr, t.web)
	return t, nil
}

func (r *rig) place(name string, ours bool) (t *target, err error) {
	t = &target{name: name, ours: ours, token: r.token}
	if t.addr, err = testkit.FreeAddress(); err == nil {
		t.web, err = testkit.FreeAddress()
	}
	return t, err
}

// down ends the broker; what it does at its end is not looked at.
func (t *target) down() error {
	err := t.Kill()
	if t.redis != nil {
		err = errors.Join(err, t.redis.Close())
	}
	return err
}

// metric is the sum of the broker's metrics of a name, over all labels.
func (t *target) metric(ctx context.Context, name string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.web+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("metrics of %s: %w", t.name, err)
	}
	defer response.Body.Close()
	lines, sum, found := bufio.NewScanner(response.Body), 0.0, false
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metric %s of %s: %w", name, t.name, err)
		}
		sum, found = sum+v, true
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("metrics of %s: %w", t.name, err)
	}
	if !found {
		return 0, fmt.Errorf("%s has no metric %s", t.name, name)
	}
	return sum, nil
}
