package simulator

import (
	"errors"
	"fmt"
	"time"
)

// Behaviour says how endpoints and the meters behind them behave. Zero values are taken as they are: start from
// DefaultBehaviour.
type Behaviour struct {
	Seed           uint64        // the same seed gives the same meters, answer times and faults
	AnswerMin      time.Duration // a meter answers after AnswerMin to AnswerMax, evenly spread
	AnswerMax      time.Duration
	BusTimeoutRate float64       // share of questions on an IPC's bus that no meter answers; direct meters have no bus
	BusTimeout     time.Duration // for so long the bus is taken then
	ClockOff       time.Duration // a meter's clock is wrong by this much at most, either way, until it is synchronised
	Faults         Faults
	LateBy         time.Duration // for so long a late result is held back
	OfflineFor     time.Duration // for so long an endpoint stays away that goes offline

	GroupCount  int           // an IPC sends so many results in one message at most
	GroupDelay  time.Duration // and lets the first one wait for others for so long
	JournalSize int           // results and readings without PUBACK an endpoint keeps; beyond, it takes up no commands
	MemorySize  int           // operations an endpoint remembers, to answer repeats from
	Window      int           // uplinks without PUBACK at a time
	PushEvery   time.Duration // a meter hands in readings nobody asked for so often; 0: never
	Hello       bool          // an endpoint sends an event "hello" when it connects for the first time

	KeepAlive  time.Duration // MQTT keep-alive, whole seconds
	AckTimeout time.Duration // an uplink without PUBACK for so long makes the endpoint connect anew
	RetryMin   time.Duration // an endpoint connects again after RetryMin to RetryMax, doubling, ± 50 %
	RetryMax   time.Duration
}

// DefaultBehaviour is a fleet without faults: meters answer in 50 to 300 ms, 1 % of the questions on a bus time out
// after 3 s.
func DefaultBehaviour() Behaviour {
	return Behaviour{
		Seed: 1, AnswerMin: 50 * time.Millisecond, AnswerMax: 300 * time.Millisecond,
		BusTimeoutRate: 0.01, BusTimeout: 3 * time.Second, ClockOff: time.Second,
		LateBy: 35 * time.Second, OfflineFor: 5 * time.Second,
		GroupCount: 50, GroupDelay: 100 * time.Millisecond, JournalSize: 10_000, MemorySize: 20_000, Window: 64,
		Hello: true, KeepAlive: 60 * time.Second, AckTimeout: 30 * time.Second,
		RetryMin: 500 * time.Millisecond, RetryMax: 30 * time.Second,
	}
}

// Validate joins all complaints.
func (b Behaviour) Validate() error {
	var errs []error
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	want(b.AnswerMin >= 0 && b.AnswerMax >= b.AnswerMin, "answer times: %s to %s is no span", b.AnswerMin, b.AnswerMax)
	want(isRate(b.BusTimeoutRate), "bus timeout rate: %v is not 0 to 1", b.BusTimeoutRate)
	for _, name := range FaultNames {
		want(isRate(*b.Faults.field(name)), "fault %s: %v is not 0 to 1", name, *b.Faults.field(name))
	}
	for name, d := range map[string]time.Duration{"bus timeout": b.BusTimeout, "clock off": b.ClockOff, "late by": b.LateBy,
		"offline for": b.OfflineFor, "group delay": b.GroupDelay, "push every": b.PushEvery} {
		want(d >= 0, "%s: %s is negative", name, d)
	}
	want(b.GroupCount > 0 && b.JournalSize > 0 && b.MemorySize > 0, "group count, journal size and memory size must be 1 or more")
	want(b.Window > 0 && b.Window < 1<<15, "window: %d is not 1 to %d", b.Window, 1<<15-1)
	want(b.KeepAlive >= time.Second && b.KeepAlive <= 10*time.Hour, "keep-alive: %s is not 1s to 10h", b.KeepAlive)
	want(b.AckTimeout > 0, "ack timeout: %s is not positive", b.AckTimeout)
	want(b.RetryMin > 0 && b.RetryMax >= b.RetryMin, "retry: %s to %s is no span", b.RetryMin, b.RetryMax)
	return errors.Join(errs...)
}
