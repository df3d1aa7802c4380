package checker

import (
	"fmt"
	"time"

	"meterline/testkit/history"
)

// model is what a history says must be, may be and cannot be.
type model struct {
	uplinks  map[string]*uplink // by message id
	readings map[readingKey]*said
	answers  map[opKey]*answers
	seen     map[opKey]*seen
	keys     map[string]*asked // by tenant/key
	commands map[string]*asked // by the command's id
	cancels  map[string]history.Line
	polls    map[string]*shown // by the command's id
	endings  map[opKey]*ending
	calls    []history.Event // with leaks, or probes
	faults   []history.Event
	heals    []history.Event
	flushes  []time.Duration

	ackTimes, acceptTimes, endTimes []time.Duration // in order of time
	executions                      []execution
	last                            time.Duration // of the history
	loadFrom, loadTo                time.Duration // devices were at work; both 0: it is not known
	resends, copies                 int
	sessions                        map[string]*sessionOf // by endpoint
	twins                           []twin
}

type opKey struct{ command, device string }

func (k opKey) String() string { return k.command + "/" + k.device }

// readingKey holds the value too: another value for the same time is another reading.
type readingKey struct {
	device, item string
	at           int64 // µs
	value        string
}

func (k readingKey) String() string {
	return fmt.Sprintf("%s %s %s = %s", k.device, k.item, time.UnixMicro(k.at).UTC().Format(time.RFC3339Nano), k.value)
}

// uplink is one message of a device.
type uplink struct {
	id, endpoint, channel string
	intent                history.Intent
	line, ackLine         history.Line
	acked                 bool
	at, ackT              time.Duration
	ackAt                 time.Time
	readings              []readingKey
	event                 *eventKey
	about                 []opKey  // of results
	devices               []string // a foreign message is about
}

func (u *uplink) lines() []history.Line {
	if u.acked {
		return []history.Line{u.line, u.ackLine}
	}
	return []history.Line{u.line}
}

type eventKey struct {
	endpoint, device, kind string
	at                     int64 // µs
}

// said is a reading that devices handed in, with the first message that was acknowledged, or the first of all.
type said struct {
	unit, command string
	by            *uplink
}

// answers are the final results for one operation, by those who may give them.
type answers struct {
	ok      *uplink // the first
	codes   map[string]*uplink
	ackedAt time.Time // the earliest PUBACK
	acked   *uplink
	late    *uplink // acknowledged, sent after the end
}

// seen is what the endpoint knows of an operation.
type seen struct {
	received, executed history.Line
	taken              bool
	asksAgain          int // after its answer was acknowledged
}

type execution struct {
	opKey
	at   time.Time
	line history.Line
}

// sessionOf is the connection of an endpoint, and the twin that wants its place.
type sessionOf struct {
	since     time.Duration // negative: there is none
	line      history.Line
	challenge time.Duration // a twin began to connect then
}

// twin is a session that another one has to make place for.
type twin struct {
	endpoint  string
	old, line history.Line
	at, gone  time.Duration // gone: when the older one ended; negative: it never did
}

// asked is one POST with all its repeats.
type asked struct {
	tenant, key   string
	hash          string // of the body that was taken
	id            string // of the command
	invokeT, okT  time.Duration
	invoked, line history.Line // the first POST, the first 2xx
	parent        string
	wrong         []string // what cannot be
	lines         []history.Line
}

type shown struct {
	status string
	line   history.Line
}

type ending struct {
	state string
	line  history.Line
	other string // another terminal state that was shown later
	at    history.Line
}
