package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/uuid"

	"meterline/cmd/launch"
	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/simulator"
)

// The demo's fleet.
const (
	demoIPCs, demoMetersPerIPC, demoDirect = 4, 25, 20
	demoGroup                              = "demo"
	demoItem                               = meterread.Item("1-0:1.8.0")
)

type demoCmd struct {
	launch.Logging

	HTTP string `name:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Where to answer HTTP; port 0 takes a free one."`
	MQTT string `name:"mqtt" default:"127.0.0.1:1883" placeholder:"HOST:PORT" help:"Where to listen for MQTT; port 0 takes a free one."`
	Once bool   `name:"once" help:"End after the reads instead of staying up; exit status 1 when a meter was not read."`
}

// Validate is called by kong.
func (c *demoCmd) Validate() error {
	return errors.Join(launch.CheckAddress("http", c.HTTP), launch.CheckAddress("mqtt", c.MQTT))
}

// Run shows one of everything, and stays up.
func (c *demoCmd) Run(p *program) error {
	dir, err := os.MkdirTemp("", "meterline-demo-")
	if err != nil {
		return err
	}
	one := &standaloneCmd{Logging: c.Logging, HTTP: c.HTTP, Data: dir, limits: limits{MaxOpen: command.DefaultMaxOpen}}
	one.MQTT, one.Anonymous, one.MaxPayload = c.MQTT, "none", 256<<10
	if c.LogLevel == 0 { // the table is what there is to see
		one.LogLevel = 4
	}
	s, err := one.open(p.ctx, one.Logger(p.stderr))
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	d := &demo{program: p, standalone: s, api: simulator.NewAPI(s.http, s.token)}
	err = d.show(p.ctx)
	if err == nil && !c.Once {
		d.next()
		err = s.stack.Wait(p.ctx)
	} else {
		s.stack.Unwind()
	}
	d.api.Close()
	if p.ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // told to end before everything was shown
	}
	return errors.Join(err, os.RemoveAll(dir))
}

// demo is a standalone with a simulated fleet.
type demo struct {
	*program
	*standalone
	api    *simulator.API
	byHand string // the secret of a device that nobody plays yet
}

// show registers the fleet and reads it in both modes, all of it and one meter.
func (d *demo) show(ctx context.Context) error {
	sites, err := d.connect(ctx)
	if err != nil {
		return err
	}
	single := sites[0].Targets()[0]
	all := command.Selector{Group: demoGroup}
	one := command.Selector{DeviceIDs: []meterread.DeviceID{single}}
	for _, read := range []struct {
		title   string
		mode    command.Mode
		targets command.Selector
	}{
		{"Group read, real-time: every meter of group " + demoGroup, command.Realtime, all},
		{"Single read, real-time", command.Realtime, one},
		{"Group read, asynchronous: every meter of group " + demoGroup, command.Async, all},
		{"Single read, asynchronous", command.Async, one},
	} {
		if err := d.read(ctx, read.title, read.mode, read.targets); err != nil {
			return err
		}
	}
	return nil
}

// connect registers the simulated fleet and waits until all of it is connected.
func (d *demo) connect(ctx context.Context) ([]simulator.Site, error) {
	layout := simulator.Layout{Prefix: "demo", IPCs: demoIPCs, MetersPerIPC: demoMetersPerIPC, BusesPerIPC: 2, Direct: demoDirect, Key: fleet.NewSecret()}
	sites := layout.Sites()
	if err := d.api.Install(ctx, sites, demoGroup); err != nil {
		return nil, err
	}
	d.byHand = fleet.NewSecret()
	byHand := simulator.Registration{ID: "by-hand", Name: "a meter for you to play", Kind: "direct", Enabled: true, Secret: d.byHand}
	if err := d.api.Import(ctx, []simulator.Registration{byHand}); err != nil {
		return nil, err
	}
	behaviour := simulator.DefaultBehaviour()
	meters, err := simulator.New(simulator.Options{Brokers: []string{d.mqtt}, Sites: sites, Behaviour: behaviour, Log: d.logger})
	if err != nil {
		return nil, err
	}
	d.stack.Go("simulated meters", meters.Run)
	d.say("%d IPCs with %d meters each and %d direct meters. Answer times %s to %s a meter, one at a time per bus; %.0f %% bus timeouts of %s.\n",
		demoIPCs, demoMetersPerIPC, demoDirect, behaviour.AnswerMin, behaviour.AnswerMax, 100*behaviour.BusTimeoutRate, behaviour.BusTimeout)
	wait, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	select {
	case <-meters.Ready():
		return sites, nil
	case <-wait.Done():
		return nil, fmt.Errorf("%d simulated endpoints did not connect: %w", meters.Waiting(), wait.Err())
	}
}

// read issues a command, follows it to its end and prints a line per meter. A meter whose bus timed out is asked again: a
// device that answers with an error has ended its operation, and Retry is how a user asks those again.
func (d *demo) read(ctx context.Context, title string, mode command.Mode, targets command.Selector) error {
	began := time.Now()
	issued, err := d.api.Issue(ctx, simulator.Order{Kind: command.MeterRead, Mode: mode, Targets: targets, Items: []meterread.Item{demoItem}}, uuid.NewString())
	if err != nil {
		return err
	}
	d.say("\n%s (%s)\n", title, issued.ID)
	v, err := d.follow(ctx, issued.ID)
	if err != nil {
		return err
	}
	d.table(v)
	d.say("%s: %d of %d read in %.1f s\n", v.Status, v.Counts.Succeeded, v.Counts.Total, time.Since(began).Seconds())
	for tries := 0; v.Status != command.StatusSucceeded && tries < 3; tries++ {
		again, err := d.retry(ctx, v.ID)
		if err != nil {
			return err
		}
		d.say("again, those that failed (%s)\n", again)
		if v, err = d.follow(ctx, again); err != nil {
			return err
		}
		d.table(v)
	}
	if v.Status != command.StatusSucceeded {
		return fmt.Errorf("command %s ended %s", v.ID, v.Status)
	}
	return nil
}

// table prints a line per meter.
func (d *demo) table(v command.View) {
	d.say("%-26s %14s %-6s %-10s %9s\n", "DEVICE", "VALUE", "UNIT", "STATE", "TOOK")
	for _, o := range v.Operations {
		value, unit := "-", ""
		if len(o.Readings) > 0 {
			value, unit = o.Readings[0].Value, o.Readings[0].Unit
		}
		state := string(o.State)
		if o.Error != nil {
			state += " " + o.Error.Code
		}
		d.say("%-26s %14s %-6s %-10s %7.3f s\n", o.DeviceID, value, unit, state, o.UpdatedAt.Sub(v.CreatedAt).Seconds())
	}
}

// next says what to try.
func (d *demo) next() {
	d.say(`
It stays up until you end it with Ctrl-C. Try next, in another terminal:

  export TOKEN=%s
  # a real-time read, answered when it is done
  curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -H 'Prefer: wait=10' \
       -d '{"kind":"meter.read","mode":"realtime","targets":{"device_ids":["demo-ipc-0001-m001"]},"items":["1-0:1.8.0","1-0:32.7.0"]}' %s/v1/commands
  # the operations centre as a page: sign in with that token at %s
  # the same by hand
  curl -s -H "Authorization: Bearer $TOKEN" '%s/v1/operations?limit=3'
  # play a meter yourself: listen for its commands ...
  mosquitto_sub -h %s -p %s -i by-hand -u by-hand -P %s -q 1 -t meterline/v1/by-hand/down/command
  # ... send it one ...
  curl -s -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
       -d '{"kind":"device.ping","targets":{"device_ids":["by-hand"]}}' %s/v1/commands
  # ... and hand in a reading
  mosquitto_pub -h %s -p %s -i by-hand:pub -u by-hand -P %s -q 1 -t meterline/v1/by-hand/up/readings \
       -m '{"v":1,"message_id":"1","readings":[{"device_id":"by-hand","item":"1-0:1.8.0","value":"42.5","unit":"kWh","read_at":"%s"}]}'
  curl -s -H "Authorization: Bearer $TOKEN" %s/v1/devices/by-hand/latest
`, d.token, d.http, d.http, d.http, host(d.mqtt), port(d.mqtt), d.byHand, d.http, host(d.mqtt), port(d.mqtt), d.byHand,
		time.Now().UTC().Format(time.RFC3339), d.http)
}

func (d *demo) say(format string, args ...any) {
	_, _ = fmt.Fprintf(d.stdout, format, args...)
}
