// Command cluster starts the whole system on this machine, as real processes: PostgreSQL, Redis, gateways, backends and,
// when asked for, a simulated fleet. It prints where everything is, and takes orders on standard input:
//
//	go run ./testkit/cmd/cluster --gateways 2 --backends 2 --simulate 100
//	kill gateway 1
//
// Ctrl-C or quit ends all of it. The exit status is 1 when something could not be
// started, and 2 when the arguments are wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"meterline/testkit"
	"meterline/testkit/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// config is what the command line says.
type config struct {
	gateways, backends int
	uplink             string
	roles              string
	simulate           int
	logs               string
	faults             bool
}

func parse(args []string, stderr io.Writer) (c config, err error) {
	flags := flag.NewFlagSet("cluster", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.IntVar(&c.gateways, "gateways", 2, "how many gateways, 1 to 20")
	flags.IntVar(&c.backends, "backends", 2, "how many backends, 1 to 20")
	flags.StringVar(&c.uplink, "uplink", "redis", "which uplink log gateways append to: redis or store")
	flags.StringVar(&c.roles, "roles", "", "roles of the backends in turn, such as api/work: the first answers HTTP, the others work")
	flags.IntVar(&c.simulate, "simulate", 0, "how many meters to simulate, ten behind each IPC, and to read all the time")
	flags.StringVar(&c.logs, "logs", filepath.Join(os.TempDir(), "meterline-cluster"), "directory of the logs")
	flags.BoolVar(&c.faults, "faults", false, "build with the tag faults, so that NAME.faults.json beside the log of a process can arm it")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case c.gateways < 1 || c.gateways > 20:
		err = errors.New("--gateways: must be 1 to 20")
	case c.backends < 1 || c.backends > 20:
		err = errors.New("--backends: must be 1 to 20")
	case c.uplink != "redis" && c.uplink != "store":
		err = errors.New("--uplink: must be redis or store")
	case c.simulate < 0:
		err = errors.New("--simulate: must not be negative")
	case c.roles != "":
		for turn := range strings.SplitSeq(c.roles, "/") {
			if !slices.Contains([]string{"api", "work", "api,work", "work,api"}, turn) {
				err = fmt.Errorf("--roles: %q is not api, work or api,work", turn)
			}
		}
	}
	if err != nil {
		fmt.Fprintln(stderr, "cluster:", err)
	}
	return c, err
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := c.serve(ctx, stdin, stdout); err != nil {
		fmt.Fprintln(stderr, "cluster:", err)
		return 1
	}
	return 0
}

func (c config) serve(ctx context.Context, stdin io.Reader, stdout io.Writer) (err error) {
	fmt.Fprintln(stdout, "building and starting, this takes some seconds")
	o := cluster.Options{Gateways: c.gateways, Backends: c.backends, Uplink: c.uplink, Dir: c.logs, Build: cluster.Build{Faults: c.faults}}
	if c.roles != "" {
		turns := strings.Split(c.roles, "/")
		for i := range c.backends {
			o.Roles = append(o.Roles, turns[min(i, len(turns)-1)])
		}
	}
	running, err := cluster.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, running.Close()) }()
	if c.simulate > 0 {
		fleet := simulator(running, c.simulate)
		if err := fleet.Start(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, fleet.Kill()) }()
	}
	desk := &console{cluster: running, out: stdout}
	desk.introduce()
	desk.status(ctx)
	desk.serve(ctx, stdin)
	return nil
}

// simulator is a fleet of its own process that reads all its meters, ten a command, for as long as it runs.
func simulator(c *cluster.Cluster, meters int) *testkit.App {
	ipcs := max(1, meters/10)
	return testkit.NewApp(testkit.AppOptions{
		Name: "simulator", Dir: c.Dir,
		Argv: []string{filepath.Join(c.Programs, "simulator"), "--broker", strings.Join(c.MQTT(), ","), "--api", c.API()[0],
			"--token", c.Token, "--ipcs", strconv.Itoa(ipcs), "--meters-per-ipc", strconv.Itoa(max(1, meters/ipcs)), "--direct", "0",
			"--rate", "2", "--check=false", "--verbose"},
		Ready: func(context.Context) error { return nil },
	})
}
