package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"meterline/command"
)

// patience is the flags of how often operations are sent, and how long they are waited for.
type patience struct {
	MaxAttempts attemptsFlag `name:"max-attempts" default:"5" placeholder:"[KIND=]N" help:"How often an operation is sent at most, unless its command says; with KIND, such as device.ping=2, for commands of that kind. Repeat for more."`
	RetryAfter  delaysFlag   `name:"retry-after" default:"5s,15s,45s,120s,300s" placeholder:"[KIND=]TIME,..." help:"How long an operation that was not answered waits before it is sent the second time, the third, and so on; the last holds for all further ones. Repeat for more kinds."`
	RunTimeout  silenceFlag  `name:"run-timeout" default:"60s" placeholder:"[KIND=]TIME" help:"How long nothing may be heard of an operation that the endpoint has before it is sent again. Repeat for more kinds."`
}

// The bounds of these flags.
const (
	leastDelay   = 100 * time.Millisecond
	leastSilence = time.Second
	mostPatience = 24 * time.Hour
)

type (
	attemptsFlag struct{ perKind[int] }
	delaysFlag   struct{ perKind[[]time.Duration] }
	silenceFlag  struct{ perKind[time.Duration] }
)

// Decode is called by kong, for each time that the flag is given.
func (f *attemptsFlag) Decode(ctx *kong.DecodeContext) error { return f.decode(ctx, parseAttempts) }

// Decode is called by kong, for each time that the flag is given.
func (f *delaysFlag) Decode(ctx *kong.DecodeContext) error { return f.decode(ctx, parseDelays) }

// Decode is called by kong, for each time that the flag is given.
func (f *silenceFlag) Decode(ctx *kong.DecodeContext) error { return f.decode(ctx, parseSilence) }

// perKind is a flag that may be given for all kinds of commands, and again for some of them. In the environment, where a
// variable is there only once, semicolons separate them.
type perKind[T any] struct {
	command.PerKind[T]
	forAll bool // given without a kind
}

func (f *perKind[T]) decode(ctx *kong.DecodeContext, parse func(string) (T, error)) error {
	var given string
	if err := ctx.Scan.PopValueInto("setting", &given); err != nil {
		return err
	}
	for one := range strings.SplitSeq(given, ";") {
		if err := f.set(strings.TrimSpace(one), parse); err != nil {
			return err
		}
	}
	return nil
}

func (f *perKind[T]) set(setting string, parse func(string) (T, error)) error {
	kind, text, own := strings.Cut(setting, "=")
	if !own {
		kind, text = "", setting
	}
	value, err := parse(text)
	if err != nil {
		return fmt.Errorf("%q: %w", setting, err)
	}
	k := command.Kind(kind)
	_, twice := f.Own[k]
	switch {
	case own && !slices.Contains(command.Kinds, k):
		return fmt.Errorf("%q: the kind must be one of %v", setting, command.Kinds)
	case own && twice || !own && f.forAll:
		return fmt.Errorf("%q: is given twice", setting)
	case !own:
		f.All, f.forAll = value, true
	case f.Own == nil:
		f.Own = map[command.Kind]T{k: value}
	default:
		f.Own[k] = value
	}
	return nil
}

func parseAttempts(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > command.MostAttempts {
		return 0, fmt.Errorf("must be 1 to %d", command.MostAttempts)
	}
	return n, nil
}

func parseSilence(text string) (time.Duration, error) {
	return parseTime(text, leastSilence)
}

func parseDelays(text string) (delays []time.Duration, err error) {
	if text == "" {
		return nil, errors.New("must name at least one time")
	}
	for one := range strings.SplitSeq(text, ",") {
		d, err := parseTime(one, leastDelay)
		if err != nil {
			return nil, err
		}
		delays = append(delays, d)
	}
	if len(delays) > command.MostAttempts-1 { // the first attempt waits for none
		return nil, fmt.Errorf("must not be more than %d times", command.MostAttempts-1)
	}
	return delays, nil
}

func parseTime(text string, least time.Duration) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil || d < least || d > mostPatience {
		return 0, fmt.Errorf("a time must be %v to %v, such as 90s or 2m", least, mostPatience)
	}
	return d, nil
}
