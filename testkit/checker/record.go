package checker

import (
	"context"
	"iter"
	"time"
)

// record is what the system has stored, at rest.
type record struct {
	now        time.Time // the database's
	commands   []commandRow
	operations []operationRow
	keys       []keyRow
	letters    []letterRow
	events     []eventRow
	strays     []string // rows whose tenant is not that of the device or command they are about
	readings   func(context.Context) iter.Seq2[readingRow, error]
	sums       map[string]sum // by device, as SQL adds up
	hashes     map[string]hash
	latest     map[string]map[string]string // device → item → value, where it is cached as a whole
}

type commandRow struct {
	id, tenant   string
	total        int
	running      bool
	finished     bool
	expires      time.Time
	version      int64
	shownExpired bool
	counts       map[string]int // by state, without queued
}

type operationRow struct {
	opKey
	tenant, state, delivery string
	open, fromStock, late   bool
	priority                int
	seq, version            int64
	code                    string
	expires                 time.Time
	moves                   []move
}

type move struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

type keyRow struct{ tenant, key, command string }

type letterRow struct {
	id, source, cause, endpoint, device, command string
	payload                                      []byte
}

type eventRow struct {
	eventKey
	tenant string
}

type readingRow struct {
	readingKey
	unit, command, tenant string
	revision              int
	late                  bool
}

// sum is how many readings a device has and what their values add up to, as decimal text.
type sum struct {
	n     int
	total string
}

// hash is what the live state holds of a command as a whole.
type hash struct {
	status  string
	version int64
	counts  map[string]int
	states  map[string]heldOperation // by device
}

type heldOperation struct {
	State   string `json:"state"`
	Version int64  `json:"version"`
}
