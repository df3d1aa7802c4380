//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A measure is one case. Its fields are its options.
type measure interface {
	// title says what is measured, for people.
	title() string
	// flags registers the options with their defaults.
	flags(*flag.FlagSet)
	// shrink makes it so small that it takes seconds, for those who want to see that it works.
	shrink()
	run(context.Context, *rig) (*finding, error)
}

// names are the cases in the order of `all`.
var names = []string{"direct", "ipc", "roundtrip", "uplinks", "postgres", "read", "post", "poll", "memory", "connect", "command", "drain"}

func measures() map[string]measure {
	return map[string]measure{
		"direct": &direct{}, "ipc": &behindIPCs{}, "postgres": &postgres{}, "roundtrip": &roundtrip{}, "uplinks": &uplinks{}, "read": &read{},
		"post": &post{}, "poll": &poll{}, "memory": &memory{}, "connect": &connect{}, "command": &large{}, "drain": &drain{},
	}
}

// options are the flags that all cases have.
type options struct {
	json, plot, from string
	ref              string // commit of gateway and backend
	profile          string // directory
	runs             int
	small, compare   bool
	files            []string // to compare
	uplinks          []string
	chosen           []string
	cases            map[string]measure
}

const usage = "usage: bench CASE[,CASE...]|all [flags]\n       bench -compare A.json B.json\nThe cases are %s. One case alone takes flags of its own: bench direct -help\n"

// parse tells what is wrong with the arguments.
func parse(args []string, stderr io.Writer) (o options, err error) {
	o.cases, o.chosen = measures(), names
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprintf(stderr, usage, strings.Join(names, ", "))
		set.PrintDefaults()
	}
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if args[0] != "all" {
			o.chosen = strings.Split(args[0], ",")
		}
		args = args[1:]
	}
	uplink := ""
	o.register(set, &uplink)
	err = o.choose(set)
	if err == nil {
		if err = set.Parse(args); err != nil {
			return o, err // it was told
		}
		o.files = set.Args()
		err = o.judge(uplink)
	}
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
	}
	return o, err
}

func (o *options) register(set *flag.FlagSet, uplink *string) {
	set.StringVar(&o.json, "json", "", "`FILE` to write all figures to")
	set.StringVar(&o.plot, "plot", "", "`DIRECTORY` to draw the figures into, as SVG")
	set.StringVar(&o.from, "from", "", "`FILE` of -json to show, instead of measuring")
	set.StringVar(&o.ref, "ref", "", "`COMMIT` whose gateway and backend are measured, by this program; default: the sources as they are")
	set.StringVar(&o.profile, "profile", "", "`DIRECTORY` for CPU profiles of gateway and backend, and the text of their first functions, of what is measured; not to be compared with other runs")
	set.IntVar(&o.runs, "runs", 1, "runs of each case: the table has their median and how far they lie apart")
	set.BoolVar(&o.small, "small", false, "make every case so small that it takes seconds: shows that it works, not how fast it is")
	set.BoolVar(&o.compare, "compare", false, "print the ratios of the two files of -json that are named after the flags")
	set.StringVar(uplink, "uplink", "redis,store", "which uplink log the gateway appends to: redis, store, or both")
}

// choose registers the flags of the case, where there is one alone; otherwise all have their defaults.
func (o *options) choose(set *flag.FlagSet) error {
	for _, name := range o.chosen {
		if o.cases[name] == nil {
			return fmt.Errorf("no case %q: there are %s", name, strings.Join(names, ", "))
		}
		if len(o.chosen) == 1 {
			o.cases[name].flags(set)
		} else {
			o.cases[name].flags(flag.NewFlagSet("", flag.ContinueOnError))
		}
	}
	return nil
}

func (o *options) judge(uplink string) error {
	o.uplinks = strings.Split(uplink, ",")
	for _, u := range o.uplinks {
		if !slices.Contains([]string{"redis", "store"}, u) {
			return fmt.Errorf("-uplink: %q is neither redis nor store", u)
		}
	}
	switch {
	case o.compare && len(o.files) != 2:
		return errors.New("-compare: needs two files")
	case !o.compare && len(o.files) > 0:
		return fmt.Errorf("unexpected argument %q", o.files[0])
	case o.profile != "" && (o.compare || o.from != ""):
		return errors.New("-profile: nothing is measured")
	case o.runs < 1:
		return errors.New("-runs: must be at least 1")
	}
	if o.small {
		for _, m := range o.cases {
			m.shrink()
		}
	}
	return nil
}
