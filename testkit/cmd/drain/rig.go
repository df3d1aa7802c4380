//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"meterline/testkit"
)

const readyWithin = 60 * time.Second

// rig is the servers and the programs. What is started last ends first.
type rig struct {
	bin, home string
	env       []string
	postgres  *testkit.PostgresServer
	db        *sql.DB
	redis     *redis.Client
	token     string
	mqtt      string // host:port
	http      string // host:port
	debug     string // host:port, where the backend serves its profiles; "": nowhere
	gateway   *testkit.App
	backend   *testkit.App
	closers   []func() error
}

func newRig(ctx context.Context, c config) (r *rig, err error) {
	r = &rig{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.home, err = os.MkdirTemp("", "meterline-drain-"); err != nil {
		return r, err
	}
	r.closers = append(r.closers, func() error { return os.RemoveAll(r.home) })
	if err := r.servers(); err != nil {
		return r, err
	}
	if c.backends != "" {
		if r.bin, err = filepath.Abs(c.backends); err != nil { // programs run in a directory of their own
			return r, err
		}
	} else {
		r.bin = r.home
		out, err := exec.CommandContext(ctx, "go", "build", "-o", r.bin, "meterline/cmd/backend", "meterline/cmd/gateway").CombinedOutput()
		if err != nil {
			return r, fmt.Errorf("build the programs: %w: %s", err, out)
		}
	}
	if _, err := r.once(ctx, "migrate"); err != nil {
		return r, err
	}
	if r.token, err = r.once(ctx, "token", "create", "--tenant", "acme", "--scopes", "admin"); err != nil {
		return r, err
	}
	for _, addr := range []*string{&r.mqtt, &r.http} {
		if *addr, err = testkit.FreeAddress(); err != nil {
			return r, err
		}
	}
	serve := []string{"serve", "--http", r.http, "--request-rate", "0", "--uplink", c.uplink}
	if c.profile != "" {
		if r.debug, err = testkit.FreeAddress(); err != nil {
			return r, err
		}
		serve = append(serve, "--debug", r.debug)
	}
	r.gateway = r.app("gateway", r.mqtt, nil, "--id", "g1", "--mqtt", r.mqtt, "--http", "127.0.0.1:0", "--uplink", c.uplink)
	r.backend = r.app("backend", r.http, r.ready, serve...)
	return r, errors.Join(r.gateway.Start(), r.backend.Start())
}

// app is a program of ours that listens on addr.
func (r *rig) app(program, addr string, ready func(context.Context) error, args ...string) *testkit.App {
	a := testkit.NewApp(testkit.AppOptions{Name: program, Dir: r.home, Env: r.env, Listens: []string{addr}, Ready: ready,
		Argv: append([]string{filepath.Join(r.bin, program)}, args...)})
	r.closers = append(r.closers, a.Stop)
	return a
}

// ready asks the backend once.
func (r *rig) ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+r.http+"/readyz", nil)
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	if err := a.Body.Close(); err != nil || a.StatusCode != http.StatusOK {
		return fmt.Errorf("the backend is not ready: status %d", a.StatusCode)
	}
	return nil
}

// ended says which of the programs have ended by themselves, and their last words.
func (r *rig) ended() error { return errors.Join(r.gateway.Ended(), r.backend.Ended()) }

func (r *rig) servers() error {
	postgres, err := testkit.StartPostgres()
	if err != nil {
		return err
	}
	r.postgres = postgres
	r.closers = append(r.closers, postgres.Close)
	server, err := testkit.StartRedis()
	if err != nil {
		return err
	}
	r.closers = append(r.closers, server.Close)
	if r.db, err = sql.Open("postgres", postgres.URL); err != nil {
		return err
	}
	r.redis = redis.NewClient(&redis.Options{Addr: server.Addr})
	r.closers = append(r.closers, r.db.Close, r.redis.Close)
	r.env = append(os.Environ(), "METERLINE_DATABASE_URL="+postgres.URL, "METERLINE_REDIS_URL=redis://"+server.Addr+"/0")
	return nil
}

// close takes everything down, in reverse order.
func (r *rig) close() error {
	var errs []error
	for i := len(r.closers) - 1; i >= 0; i-- {
		errs = append(errs, r.closers[i]())
	}
	return errors.Join(errs...)
}

// once runs a subcommand of backend to its end and gives the first line of its standard output.
func (r *rig) once(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, filepath.Join(r.bin, "backend"), args...)
	var stderr bytes.Buffer
	c.Env, c.Stderr = r.env, &stderr
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("backend %v: %w: %s", args, err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// walFiles of 16 MiB are what a PostgreSQL that has been at work for a while has to write over. A new one makes each while all who
// commit wait, 100 ms every few seconds: that would measure the first minutes in the life of a database.
const walFiles = 64

// pave has them made, and written to the disk.
func (r *rig) pave(ctx context.Context) error {
	statements := []string{`ALTER SYSTEM SET min_wal_size = '1GB'`, `SELECT pg_reload_conf()`}
	for range walFiles {
		statements = append(statements, `SELECT pg_logical_emit_message(false, 'drain', 'next file')`, `SELECT pg_switch_wal()`)
	}
	for _, s := range append(statements, `CHECKPOINT`) {
		if _, err := r.db.ExecContext(ctx, s); err != nil {
			return err
		}
	}
	syscall.Sync()
	return nil
}

// until polls.
func until(ctx context.Context, what string, done func() bool) error {
	ctx, stop := context.WithTimeout(ctx, readyWithin)
	defer stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
		}
	}
	return nil
}

// metric sums up a metric of the backend over its labels.
func (r *rig) metric(name string) (sum float64, err error) {
	a, err := http.Get((&url.URL{Scheme: "http", Host: r.http, Path: "/metrics"}).String())
	if err != nil {
		return 0, err
	}
	defer a.Body.Close()
	for lines := bufio.NewScanner(a.Body); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if found, _, _ := strings.Cut(key, "{"); found == name {
			v, _ := strconv.ParseFloat(value, 64)
			sum += v
		}
	}
	return sum, nil
}

// cost is processor time, and how much of it has gone by.
type cost struct {
	backend, postgres time.Duration
}

func (c cost) since(before cost) cost {
	return cost{c.backend - before.backend, c.postgres - before.postgres}
}

// cpu is what the backend and all processes of PostgreSQL have used.
func (r *rig) cpu() (c cost, err error) {
	if c.backend, err = r.backend.CPU(); err != nil {
		return c, err
	}
	c.postgres, err = r.postgres.CPU()
	return c, err
}
