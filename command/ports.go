package command

import (
	"context"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// The interfaces behind which the record (store), the live state (state), the uplink log (uplink) and the way to the
// endpoints (mqtt) stand. Times that come from the record are its clock's; it decides deadlines and leases.

// Fence names the partitions a worker believes it owns, with the epoch of each.
type Fence map[int]int64

// LogPosition is how far a partition of the uplink log has been taken over into the record.
type LogPosition struct {
	Partition  int
	Generation string // of the log; another one means: read from the start
	Position   Position
}

// Need is what a transaction wants to see.
type Need struct {
	Operations []Key                // loaded, and locked until the end of the transaction
	Known      []*Operation         // others, as they were when they were seen last: not loaded; see Ledger.Change
	Devices    []meterread.DeviceID // not locked
	Replays    []string             // dead letters that are handled again; locked
	Letters    []meterread.DeviceID // endpoints whose open dead letters are to be counted
}

// Tx is what decide sees and leaves behind. Operations that decide moved are written; their commands' counts, versions
// and ends follow from them.
type Tx struct {
	Now        time.Time
	Operations map[Key]*Operation // those that exist, and copies of those that are known; changed in place
	Devices    map[meterread.DeviceID]fleet.Device
	Replays    map[string]struct{}               // those that still wait; all of them are handled when this is committed
	Letters    map[meterread.DeviceID]LetterLoad // of all that were asked for

	// left behind by decide
	Readings    []meterread.Reading // written once each: see meterread.Reading for what counts as the same
	DeadLetters []DeadLetter
	Events      []Event
	Positions   []LogPosition
}

// Change is what one transaction, or several of one owner folded together, did to one command.
type Change struct {
	From       int64 // the command's version before; Command.Version is the one after
	Command    Command
	Operations []*Operation // those that moved; nil when Bulk
	Bulk       bool         // many moved and are not listed: whoever caches the command must read it again
	Ended      int          // by Ledger.End: how many, listed or not
}

// Committed is what a transaction did.
type Committed struct {
	Now      time.Time
	Changes  []Change
	Readings []meterread.Reading // those that were new
}

// Ledger is the record as the worker sees it. Every method that takes a Fence checks, in its own transaction, that all
// partitions in it are still owned with that epoch, else it answers ErrLost and has done nothing. Everything can be
// repeated: a write that was made already changes nothing.
type Ledger interface {
	// Change loads what is needed, lets decide move it and commits. What is known is not loaded: should one that decide moved be
	// of another version in the record by now, nothing is committed and all of them are loaded and decided again. So decide may
	// run more than once, each time on fresh operations; its error rolls back and is returned as it is.
	Change(ctx context.Context, f Fence, need Need, decide func(*Tx) error) (Committed, error)
	// Ready loads the operations at the head of the given endpoints' queues that may be sent now, in order per endpoint:
	// priority, then age, then device id. It locks nothing. What came after a command of the same tenant and priority that is
	// still expanding waits for it: per device and priority commands are first sent in order.
	Ready(ctx context.Context, heads []Head) (map[meterread.DeviceID]Front, error)
	// Recover lists what a new owner of the partitions must know. It costs a scan over their open operations.
	Recover(ctx context.Context, partitions []int) (Recovered, error)
	// Commands loads commands without their counts being in any way locked.
	Commands(ctx context.Context, ids []ID) (map[ID]Command, error)

	// Arrivals lists the commands accepted after the sequence number, oldest first, at most limit, and those still
	// expanding whatever their number.
	Arrivals(ctx context.Context, after int64, limit int) ([]Arrival, error)
	// Endpoints lists the endpoints in the partitions that the command has operations for, from the device after the
	// given one on; last is the last device looked at.
	Endpoints(ctx context.Context, id ID, partitions []int, after meterread.DeviceID) (endpoints []meterread.DeviceID, last meterread.DeviceID, err error)
	// Due lists running commands whose deadline has passed or that were cancelled, but those named.
	Due(ctx context.Context, except []ID, limit int) ([]Command, error)
	// Timed lists the commands whose NotBefore lies in (from, to].
	Timed(ctx context.Context, from, to time.Time) ([]ID, error)
	// End ends up to limit open operations of commands as Expired or Cancelled, in the partitions of f (nil: in all,
	// unfenced). Only those whose deadline has passed can expire, only the others be cancelled. Of one command they end in
	// order of their devices from the one after the given on, and last is how far that went; several are begun at their
	// beginning each time. more is true when there may be more.
	End(ctx context.Context, f Fence, ids []ID, as State, reason string, after meterread.DeviceID, limit int) (c Committed, last meterread.DeviceID, more bool, err error)

	// Hold renews what owner holds, takes over what is free or whose lease is over, up to a fair share of the living
	// owners, and answers with everything it now holds. excess says how many more than its share it holds: it should
	// Release so many. Epochs rise with every change of owner. behind says for how long something that this owner committed,
	// or took over, has been waiting to be carried into the live state: the next owner recovers from there.
	Hold(ctx context.Context, owner string, lease, behind time.Duration) (held Fence, excess int, err error)
	// Release gives partitions back so that others may take them at once; those that owner does not hold stay as they are.
	Release(ctx context.Context, owner string, partitions []int) error
	// Now is the database's clock.
	Now(ctx context.Context) (time.Time, error)
}

// Head asks for the head of one endpoint's queue.
type Head struct {
	Endpoint    meterread.DeviceID
	Partition   int
	Limit       int
	MinPriority int                  // only operations of at least this priority
	Busy        []meterread.DeviceID // devices that have an operation in flight
}

// Front is the front of an endpoint's queue.
type Front struct {
	Operations []*Operation // one of a device at most
	More       bool         // others may be sent now, too, but for the limit, or for another of the same device
}

// Recovered is what a new owner learns.
type Recovered struct {
	InFlight  []*Operation         // sent, delivered or accepted
	Waiting   []Waiting            // endpoints with operations that wait for a time
	Endpoints []meterread.DeviceID // with open operations
	Positions []LogPosition
	Seq       int64 // every command up to it is settled: its operations are among the above, or are still being made
	// What the owners before may have committed and not yet put into the live state: commands that are running, or have ended
	// since they were not behind with it, of at most LiveLimit operations; and devices that were read since.
	Commands []ID
	Read     []meterread.DeviceID
}

// Waiting says when an endpoint has something that it has not now.
type Waiting struct {
	Endpoint meterread.DeviceID
	At       time.Time
}

// Arrival is a command that workers may not have heard of.
type Arrival struct {
	ID        ID
	Seq       int64
	Expanding bool
	Age       time.Duration // since it was accepted
}

// Log is the uplink log as the worker reads it.
type Log interface {
	// Read returns what was appended to each partition after its position, in order, at most limit entries per
	// partition, without waiting. A position of another generation than the log's own counts as the start.
	Read(ctx context.Context, from []LogPosition, limit int) ([]LogBatch, error)
	// Stored tells the log that everything up to these positions is in the record. The log may forget it, and in one
	// process answers those who wait for it. It does not fail: what it could not trim now it trims later.
	Stored(ctx context.Context, positions []LogPosition)
	// Arrived signals that there may be something to read. It may be late or missing: look anyway from time to time.
	Arrived() <-chan struct{}
	// Append puts entries in. It blocks until they are durable.
	Append(ctx context.Context, entries []Uplink) error
}

// Owning is what a Log may want to know besides: which partitions its reader owns.
type Owning interface {
	// Owns names all of them. How far others are in the record is not known here any more. It does not block.
	Owns(partitions []int)
}

// Pressing is what a Log may know besides: whether it has to be taken over as fast as possible.
type Pressing interface {
	// Presses says that the log is nearly full, or holds more and more. It does not block.
	Presses() bool
}

// LogBatch is what Read found in one partition.
type LogBatch struct {
	LogPosition // after the last entry
	Entries     []Uplink
	Horizon     time.Time // everything appended before it, by the log's clock, has been returned by now
	Now         time.Time // the log's clock when it was read
}

// Gateway is an MQTT edge node.
type Gateway struct {
	ID          string
	Incarnation string // changes with every start
	Address     string // host:port where backends reach it by MQTT
}

// Presence is who is connected where.
type Presence interface {
	// Sessions looks up the newest session of each endpoint that has one.
	Sessions(ctx context.Context, endpoints []meterread.DeviceID) (map[meterread.DeviceID]Session, error)
	// Gateways lists the gateways with their heartbeat counters.
	Gateways(ctx context.Context) (map[Gateway]int64, error)
}

// Publisher hands messages to gateways.
type Publisher interface {
	// Publish starts to send m to the endpoint by its gateway and does not wait. done is called once, from another
	// goroutine, with nil when the gateway has taken the message over; any error means that it may not have.
	Publish(ctx context.Context, gateway string, endpoint meterread.DeviceID, m Message, done func(error))
	// Reachable says whether there is a connection to the gateway now.
	Reachable(gateway string) bool
}

// Live is the live state: what polls are answered from. It is a cache beside the record: it may lose everything at any
// moment and must never answer with a part. Only whole snapshots are put in, and only by Prepare, then reading the
// record, then Fill: a change in between, or a flush, makes Fill do nothing.
type Live interface {
	Prepare(ctx context.Context, id ID) (token string, err error)
	Fill(ctx context.Context, token string, v View) error
	// Load returns the command with its first page operations in order of their devices, counts and operations of one
	// moment; false when it is not there as a whole. page is 1000 at most. The operations may come Encoded.
	Load(ctx context.Context, id ID, page int) (View, bool, error)
	// Apply brings cached commands up to date; older versions never overwrite newer ones, what is not cached stays so.
	Apply(ctx context.Context, changes []Change) error
	// Forget drops commands: they are read from the record again.
	Forget(ctx context.Context, ids []ID) error
	// PutReadings brings the newest readings up to date where they are cached.
	PutReadings(ctx context.Context, rs []meterread.Reading) error
	// ForgetReadings drops the newest readings of devices: they are read from the record again.
	ForgetReadings(ctx context.Context, devices []meterread.DeviceID) error
}

// Newest is the newest readings of devices, cached like Live and under the same protocol.
type Newest interface {
	Latest(ctx context.Context, d meterread.DeviceID) ([]meterread.Reading, bool, error)
	PrepareLatest(ctx context.Context, d meterread.DeviceID) (token string, err error)
	FillLatest(ctx context.Context, d meterread.DeviceID, token string, rs []meterread.Reading) error
}

// LiveLimit is the largest command, in operations, that is held in the live state.
const LiveLimit = 10_000

// Notices tells processes what others did. Lossy: whoever listens looks for itself once a second at the least.
type Notices interface {
	Notify(ctx context.Context, n Notice) error
	// Listen calls f for every notice until ctx is done. It must not block for long.
	Listen(ctx context.Context, f func(Notice)) error
}

// Notice is what one transaction did, for those who may wait for it.
type Notice struct {
	Moved   []ID      `json:"moved,omitempty"`   // commands of which operations moved
	Arrived []Arrived `json:"arrived,omitempty"` // operations that can be sent
	Ended   []ID      `json:"ended,omitempty"`   // commands of which operations ended by other hands than the owner's
	Replays bool      `json:"replays,omitempty"` // dead letters wait to be handled again
}

// Arrived names operations that can be sent.
type Arrived struct {
	CommandID ID                   `json:"command_id"`
	Seq       int64                `json:"seq"`
	Endpoints []meterread.DeviceID `json:"endpoints,omitempty"` // that have them; none: look them up
	Whole     bool                 `json:"whole,omitempty"`     // these are all of the command
	Urgent    bool                 `json:"urgent,omitempty"`    // somebody waits for them
}
