package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"meterline/testkit"
	"meterline/testkit/cluster"
)

// console lets a person break the cluster.
type console struct {
	cluster *cluster.Cluster
	out     io.Writer
}

const usage = `orders: kill | stop | start | pause | resume  gateway N | backend N | redis | postgres
        cut | hold | heal  gateway N | backend N      connections to PostgreSQL and Redis: reset, held back, whole again
        flush                                         FLUSHALL
        status · help · quit`

// introduce says where everything is and how to use it.
func (c *console) introduce() {
	api := c.cluster.API()[0]
	fmt.Fprintf(c.out, `
token   %s
SQL     %s
Redis   redis://%s/0
logs    %s

curl -s -H 'Authorization: Bearer %s' %s/v1/devices
curl -s -H 'Authorization: Bearer %s' --json '{"kind":"meter.read","mode":"realtime","targets":{"all":true},"items":["1-0:1.8.0"]}' %s/v1/commands

%s

`, c.cluster.Token, c.cluster.DatabaseURL, c.cluster.Redis.Addr, c.cluster.Dir, c.cluster.Token, api, c.cluster.Token, api, usage)
}

// serve takes orders until ctx is done or it is told to quit. When there are no more orders it waits for ctx.
func (c *console) serve(ctx context.Context, in io.Reader) {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case line, ok := <-lines:
			if !ok { // started without a terminal
				<-ctx.Done()
				return
			}
			if c.obey(ctx, line) {
				return
			}
		}
	}
}

// obey carries out one order.
func (c *console) obey(ctx context.Context, line string) (quit bool) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return false
	}
	began := time.Now()
	switch words[0] {
	case "quit", "exit":
		return true
	case "help":
		fmt.Fprintln(c.out, usage)
		return false
	case "status":
		c.status(ctx)
		return false
	}
	if err := c.do(ctx, words[0], strings.Join(words[1:], "-")); err != nil {
		fmt.Fprintln(c.out, err)
		return false
	}
	fmt.Fprintf(c.out, "done in %v\n", time.Since(began).Round(time.Millisecond))
	return false
}

// orders are those of usage that name what they are done to.
var orders = []string{"kill", "stop", "start", "pause", "resume", "cut", "hold", "heal"}

func (c *console) do(ctx context.Context, verb, name string) error {
	switch {
	case verb == "flush" && name == "":
		return c.cluster.Redis.FlushAll(ctx)
	case verb == "flush":
		return errors.New("flush: takes nothing after it")
	case !slices.Contains(orders, verb):
		return fmt.Errorf("there is no order %q; try: help", verb)
	case name == "":
		return fmt.Errorf("%s what? try: status", verb)
	}
	n := c.cluster.Find(name)
	var p testkit.Process
	switch {
	case n != nil:
		p = n.Process
	case name == "redis":
		p = c.cluster.Redis.Process
	case name == "postgres":
		p = c.cluster.Postgres.Process
	default:
		return fmt.Errorf("there is no %q; try: status", name)
	}
	act, ok := map[string]func() error{"kill": p.Kill, "stop": p.Stop, "start": c.starting(name, p), "pause": p.Pause, "resume": p.Resume}[verb]
	if !ok && n != nil {
		act, ok = map[string]func() error{"cut": n.Cut, "hold": n.Hold, "heal": n.Heal}[verb]
	}
	if !ok {
		return fmt.Errorf("%q cannot be done to %s; try: help", verb, name)
	}
	return act()
}

// starting starts a process. While it cannot stand, because what it needs is away, a person is told what it waits for.
func (c *console) starting(name string, p testkit.Process) func() error {
	return func() error {
		return p.StartTelling(func(said string, within time.Duration) {
			fmt.Fprintf(c.out, "%s ended, and is started again for up to %v. It said: %s\n", name, within, said)
		})
	}
}

// status lists every process, all at once: who reads along must not take a part of the table for all of it.
func (c *console) status(ctx context.Context) {
	var table bytes.Buffer
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PROCESS\tPID\tCLIENTS CONNECT TO\tHEALTH, METRICS\tREADY\tPARTITIONS")
	row := func(name string, pid int, rest ...string) {
		at := "down"
		if pid != 0 {
			at = strconv.Itoa(pid)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", name, at, strings.Join(rest, "\t"))
	}
	row("postgres", c.cluster.Postgres.PID())
	row("redis", c.cluster.Redis.PID(), c.cluster.Redis.Addr)
	shares, err := c.cluster.Shares(ctx)
	for _, n := range c.cluster.Nodes() {
		share := ""
		if of, ok := shares[n.Name]; ok && err == nil {
			share = strconv.Itoa(of)
		}
		row(n.Name, n.PID(), n.Address, "http://"+n.HTTP, ready(ctx, n), share)
	}
	_ = w.Flush()
	_, _ = c.out.Write(table.Bytes())
}

// askWithin is longer than a process that is up takes to say that it is not ready: it asks Redis and PostgreSQL for 2 s.
const askWithin = 3 * time.Second

func ready(ctx context.Context, n *cluster.Node) string {
	ctx, stop := context.WithTimeout(ctx, askWithin)
	defer stop()
	switch err := n.Ready(ctx); {
	case err == nil:
		return "yes"
	case n.PID() == 0:
		return ""
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer"
	}
	return "no"
}
