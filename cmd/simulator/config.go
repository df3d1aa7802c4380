package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"meterline/command"
	"meterline/meterread"
	"meterline/simulator"
)

// secret does not show when it is printed.
type secret string

func (secret) String() string   { return "<secret>" }
func (secret) GoString() string { return "<secret>" }

// config is what the command line and the environment say. Every flag is also METERLINE_<FLAG> in the environment.
type config struct {
	Broker    []string `help:"MQTT addresses, host:port, mqtt:// or mqtts://; each endpoint tries them in turn." default:"127.0.0.1:1883"`
	API       string   `name:"api" help:"HTTP API." default:"http://127.0.0.1:8080"`
	Token     secret   `help:"API token; needs fleet:write, commands:read, commands:write, readings:read."`
	TokenFile string   `help:"File that holds the API token."`

	IPCs         int    `name:"ipcs" help:"IPCs." default:"2"`
	MetersPerIPC int    `name:"meters-per-ipc" help:"Meters behind each IPC." default:"10"`
	BusesPerIPC  int    `name:"buses-per-ipc" help:"Serial buses of each IPC; each reads one meter at a time." default:"2"`
	Direct       int    `help:"Meters that speak MQTT themselves." default:"10"`
	Prefix       string `help:"What the device ids begin with; also the name of their group." default:"sim"`
	Install      bool   `help:"Register the fleet through the API first." default:"true" negatable:""`

	Seed           uint64        `help:"The same seed gives the same meters, answer times and faults." default:"1"`
	AnswerMin      time.Duration `help:"A meter answers after this at least." default:"50ms"`
	AnswerMax      time.Duration `help:"A meter answers after this at most." default:"300ms"`
	BusTimeoutRate float64       `help:"Share of questions on a bus that nobody answers, 0 to 1." default:"0.01"`
	BusTimeout     time.Duration `help:"How long such a question takes." default:"3s"`
	Fault          []string      `help:"A fault and its rate, 0 to 1, such as late=0.01: late, lost, duplicate, error, offline, garbage. Repeat for more." placeholder:"NAME=RATE"`
	LateBy         time.Duration `help:"How long a late result is held back." default:"35s"`
	OfflineFor     time.Duration `help:"How long an endpoint stays away that goes offline." default:"5s"`
	GroupCount     int           `help:"Results an IPC sends in one message at most." default:"50"`
	GroupDelay     time.Duration `help:"How long an IPC waits for more results to send together." default:"100ms"`
	PushEvery      time.Duration `help:"How often each meter hands in readings nobody asked for; 0: never." default:"0s"`
	KeepAlive      time.Duration `help:"MQTT keep-alive." default:"60s"`
	ConnectRate    float64       `help:"Connections per second of the whole fleet." default:"500"`

	Rate        float64       `help:"Commands per second; 0: none, the fleet just runs." default:"0"`
	Duration    time.Duration `help:"How long commands are issued, or the fleet runs; 0: until a signal." default:"0s"`
	CommandSize int           `help:"Devices per command." default:"10"`
	Targets     string        `help:"How commands name their devices: ids (in turn), group (the whole fleet), all (of the tenant)." default:"ids"`
	Mode        string        `help:"realtime or async." default:"realtime"`
	Items       []string      `help:"What to read." default:"1-0:1.8.0,1-0:2.8.0,1-0:32.7.0"`
	Timeout     time.Duration `help:"Deadline of each command; 0: the server's default." default:"0s"`
	Poll        time.Duration `help:"Time between two polls of a command." default:"1s"`
	MaxOpen     int           `help:"Commands open at once; beyond, commands are held back and counted." default:"500"`
	Drain       time.Duration `help:"After the last command: how long to wait for open ones." default:"60s"`
	Settle      time.Duration `help:"After that: how long to wait for PUBACKs, and for readings to be stored." default:"30s"`
	Check       bool          `help:"Compare what was acknowledged with what is stored. Keeps every reading in memory." default:"true" negatable:""`

	JSON    bool `name:"json" help:"Print the report as JSON."`
	Verbose bool `help:"Log every lost connection."`

	faults simulator.Faults
}

// errHelp says that help was printed and nothing is left to do.
var errHelp = errors.New("help")

// parse reads flags and environment. Its error is one line that names the flag.
func parse(args []string, stdout, stderr io.Writer) (*config, error) {
	c := &config{}
	helped := false
	parser, err := kong.New(c, kong.Name("simulator"), kong.Writers(stdout, stderr), kong.DefaultEnvars("METERLINE"),
		kong.Description("A fleet of simulated meters and IPCs over MQTT, with faults to order; with --rate also a load test."),
		kong.Exit(func(int) { helped = true }))
	if err != nil {
		return nil, fmt.Errorf("describe flags: %w", err)
	}
	parsed, err := parser.Parse(args)
	if helped {
		return nil, errHelp
	}
	if err != nil {
		return nil, err
	}
	if err := c.readToken(parsed); err != nil {
		return nil, err
	}
	return c, c.validate()
}

// readToken reads the token's file, if that is what counts: a flag wins over the environment, where the variable wins over
// its file.
func (c *config) readToken(parsed *kong.Context) error {
	token, file := typed(parsed, "token"), typed(parsed, "token-file")
	switch {
	case c.TokenFile == "":
		return nil
	case c.Token != "" && token && file:
		return errors.New("--token-file: there is --token, too: give one of them")
	case c.Token != "" && (token || !file):
		return nil
	}
	text, err := os.ReadFile(c.TokenFile)
	if err != nil {
		return fmt.Errorf("--token-file: %w", err)
	}
	c.Token = secret(strings.TrimSpace(string(text)))
	return nil
}

// typed says whether the flag is on the command line.
func typed(parsed *kong.Context, flag string) bool {
	return slices.ContainsFunc(parsed.Path, func(p *kong.Path) bool { return p.Flag != nil && p.Flag.Name == flag })
}

var prefix = regexp.MustCompile(`^[A-Za-z0-9._-]{1,40}$`)

// complaints gathers what is wrong.
type complaints []string

func (c *complaints) unless(ok bool, flag, format string, args ...any) {
	if !ok {
		*c = append(*c, "--"+flag+": "+fmt.Sprintf(format, args...))
	}
}

// validate joins all complaints in one line.
func (c *config) validate() error {
	var bad complaints
	c.validateServers(&bad)
	c.validateFleet(&bad)
	c.validateLoad(&bad)
	if len(bad) > 0 {
		return errors.New(strings.Join(bad, "; "))
	}
	return nil
}

func (c *config) validateServers(bad *complaints) {
	bad.unless(c.Token != "", "token", "is missing (or --token-file)")
	u, err := url.Parse(c.API)
	bad.unless(err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "", "api", "%q is no http address", c.API)
	bad.unless(len(c.Broker) > 0, "broker", "is missing")
	for _, b := range c.Broker {
		bad.unless(simulator.CheckBroker(b) == nil, "broker", "%v", simulator.CheckBroker(b))
	}
}

func (c *config) validateFleet(bad *complaints) {
	bad.unless(c.IPCs >= 0 && c.IPCs <= 9999, "ipcs", "%d is not 0 to 9999", c.IPCs)
	bad.unless(c.MetersPerIPC >= 0 && c.MetersPerIPC <= 999_999, "meters-per-ipc", "%d is not 0 to 999999", c.MetersPerIPC)
	bad.unless(c.BusesPerIPC >= 1, "buses-per-ipc", "%d is less than 1", c.BusesPerIPC)
	bad.unless(c.Direct >= 0 && c.Direct <= 99_999, "direct", "%d is not 0 to 99999", c.Direct)
	bad.unless(c.IPCs+c.Direct > 0, "ipcs", "neither IPCs nor --direct meters: there is nothing to simulate")
	bad.unless(prefix.MatchString(c.Prefix), "prefix", "%q must be 1 to 40 of A-Z a-z 0-9 . _ -", c.Prefix)
	bad.unless(c.AnswerMin >= 0, "answer-min", "%s is negative", c.AnswerMin)
	bad.unless(c.AnswerMax >= c.AnswerMin, "answer-max", "%s is less than --answer-min %s", c.AnswerMax, c.AnswerMin)
	bad.unless(c.BusTimeoutRate >= 0 && c.BusTimeoutRate <= 1, "bus-timeout-rate", "%v is not 0 to 1", c.BusTimeoutRate)
	bad.unless(c.GroupCount >= 1, "group-count", "%d is less than 1", c.GroupCount)
	bad.unless(c.KeepAlive >= time.Second && c.KeepAlive <= 10*time.Hour, "keep-alive", "%s is not 1s to 10h", c.KeepAlive)
	bad.unless(c.ConnectRate > 0 && !math.IsInf(c.ConnectRate, 0), "connect-rate", "%v is not above 0", c.ConnectRate)
	for flag, d := range map[string]time.Duration{"bus-timeout": c.BusTimeout, "late-by": c.LateBy, "offline-for": c.OfflineFor,
		"group-delay": c.GroupDelay, "push-every": c.PushEvery} {
		bad.unless(d >= 0, flag, "%s is negative", d)
	}
	var err error
	c.faults, err = simulator.ParseFaults(c.Fault)
	bad.unless(err == nil, "fault", "%s", oneLine(err))
}

func (c *config) validateLoad(bad *complaints) {
	bad.unless(c.Rate >= 0 && c.Rate <= 10_000, "rate", "%v is not 0 to 10000 commands per second", c.Rate)
	bad.unless(c.CommandSize >= 1, "command-size", "%d is less than 1", c.CommandSize)
	bad.unless(c.MaxOpen >= 1, "max-open", "%d is less than 1", c.MaxOpen)
	bad.unless(c.Poll > 0, "poll", "%s is not above 0", c.Poll)
	switch simulator.Targets(c.Targets) {
	case simulator.TargetIDs, simulator.TargetGroup, simulator.TargetAll:
	default:
		bad.unless(false, "targets", "%q is not ids, group or all", c.Targets)
	}
	mode := command.Mode(c.Mode)
	bad.unless(mode == command.Realtime || mode == command.Async, "mode", "%q is not realtime or async", c.Mode)
	for _, item := range c.Items {
		_, err := meterread.ParseItem(item)
		bad.unless(err == nil, "items", "%q: %v", item, err)
	}
	bad.unless(len(c.Items) > 0, "items", "is empty")
	for flag, d := range map[string]time.Duration{"duration": c.Duration, "timeout": c.Timeout, "drain": c.Drain, "settle": c.Settle} {
		bad.unless(d >= 0, flag, "%s is negative", d)
	}
}

func oneLine(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")
}

func (c *config) behaviour() simulator.Behaviour {
	b := simulator.DefaultBehaviour()
	b.Seed, b.AnswerMin, b.AnswerMax = c.Seed, c.AnswerMin, c.AnswerMax
	b.BusTimeoutRate, b.BusTimeout = c.BusTimeoutRate, c.BusTimeout
	b.Faults, b.LateBy, b.OfflineFor = c.faults, c.LateBy, c.OfflineFor
	b.GroupCount, b.GroupDelay, b.PushEvery, b.KeepAlive = c.GroupCount, c.GroupDelay, c.PushEvery, c.KeepAlive
	return b
}

func (c *config) load(devices []meterread.DeviceID) simulator.Load {
	items := make([]meterread.Item, len(c.Items))
	for i, item := range c.Items {
		items[i] = meterread.Item(item)
	}
	return simulator.Load{Rate: c.Rate, Duration: c.Duration, CommandSize: c.CommandSize, Targets: simulator.Targets(c.Targets),
		Group: c.Prefix, Devices: devices, Items: items, Mode: command.Mode(c.Mode), Timeout: c.Timeout, Poll: c.Poll,
		Drain: c.Drain, MaxOpen: c.MaxOpen}
}

func (c *config) settings() simulator.Settings {
	s := simulator.Settings{Brokers: c.Broker, API: c.API, IPCs: c.IPCs, MetersPerIPC: c.MetersPerIPC, BusesPerIPC: c.BusesPerIPC,
		Direct: c.Direct, Seed: c.Seed, AnswerMin: c.AnswerMin.Seconds(), AnswerMax: c.AnswerMax.Seconds(),
		BusTimeoutRate: c.BusTimeoutRate, BusTimeout: c.BusTimeout.Seconds(), Faults: c.faults, LateBy: c.LateBy.Seconds(),
		OfflineFor: c.OfflineFor.Seconds(), PushEvery: c.PushEvery.Seconds(), ConnectPerSec: c.ConnectRate,
		GroupCount: c.GroupCount, GroupDelay: c.GroupDelay.Seconds()}
	if c.Rate > 0 {
		s.Rate, s.CommandSize, s.Targets, s.Mode = c.Rate, c.CommandSize, simulator.Targets(c.Targets), c.Mode
		s.Items, s.Poll = c.Items, c.Poll.Seconds()
	}
	return s
}
