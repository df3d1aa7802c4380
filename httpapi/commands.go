package httpapi

import (
	"context"
	"crypto/sha256"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/google/uuid"

	"meterline/command"
	"meterline/fault"
	"meterline/fleet"
	"meterline/meterread"
)

var (
	readCommands  = []fleet.Scope{fleet.CommandsRead}
	writeCommands = []fleet.Scope{fleet.CommandsWrite}
)

func (a *API) addCommands() {
	add(a, route{method: http.MethodPost, path: "/v1/commands", id: "issueCommand", tag: "commands", status: http.StatusAccepted,
		summary: "Issue a command",
		text: "Answers 202 as soon as the command is committed, or with `Prefer: wait=N` 200 when it ends within N seconds. " +
			"`meter.relay` needs scope commands:control too.",
		scopes: writeCommands, body: command.Request{}, wait: maxWait, errors: []int{http.StatusConflict}}, a.issue)
	add(a, route{method: http.MethodGet, path: "/v1/commands", id: "listCommands", tag: "commands",
		summary: "List commands, newest first",
		text: "`device_id`, `endpoint_id`, `group`, `code` and those of `state` that are an operation's narrow the list to commands " +
			"with an operation that is all of that. From its deadline on, what is open is expired.",
		scopes: readCommands}, a.listCommands)
	add(a, route{method: http.MethodGet, path: "/v1/commands/{id}", id: "getCommand", tag: "commands",
		summary: "Show a command with up to 1000 of its operations",
		text:    "With `wait` it answers as soon as the command has ended, or as it is after so many seconds.",
		scopes:  readCommands, wait: maxWait}, a.getCommand)
	add(a, route{method: http.MethodPost, path: "/v1/commands/{id}/cancel", id: "cancelCommand", tag: "commands",
		summary: "Cancel what is open of a command",
		text:    "A device that was sent the command may still act: the delivery of its operation says whether.",
		scopes:  writeCommands}, a.cancel)
	add(a, route{method: http.MethodPost, path: "/v1/commands/{id}/retry", id: "retryCommand", tag: "commands", status: http.StatusAccepted,
		summary: "Issue a command again for those of its devices that did not succeed",
		scopes:  writeCommands, wait: maxWait, errors: []int{http.StatusConflict}}, a.retry)
}

// Idempotent is a part of the input of calls that may be repeated.
type Idempotent struct {
	Key    string `header:"Idempotency-Key" maxLength:"255" doc:"the same key with the same body gives the same command, for 7 days"`
	Prefer string `header:"Prefer" doc:"wait=N: answer 200 when the command ends within N (up to 60) seconds (RFC 7240)"`
}

// issued is the answer to a command that was taken.
type issued struct {
	Status     int
	Location   string `header:"Location" doc:"where the command is"`
	RetryAfter string `header:"Retry-After" doc:"when to look there again, in seconds"`
	Replayed   string `header:"Idempotent-Replayed" doc:"true: the command was there before, under the same key"`
	Applied    string `header:"Preference-Applied" doc:"the preference that was followed"`
	Body       command.View
}

// traceParent is version 00 of W3C Trace Context, 3.2.2.
var traceParent = regexp.MustCompile(`^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

func (a *API) issue(ctx context.Context, by fleet.Token, in *struct {
	Idempotent
	RawJSON
	TraceParent string `header:"Traceparent" doc:"W3C Trace Context; travels with the command to its endpoints. One that is not well-formed is ignored"`
}) (*issued, error) {
	r, hash, err := decode[command.Request](in.RawBody)
	if err != nil {
		return nil, err
	}
	if traceParent.MatchString(in.TraceParent) {
		r.TraceParent = in.TraceParent
	}
	key, err := in.of(hash)
	if err != nil {
		return nil, err
	}
	v, replayed, err := a.commands.Issue(ctx, actor(ctx, by), r, key)
	if err != nil && fault.Bug(fault.BugAcceptedUnsaved) && classify(err).Status == http.StatusServiceUnavailable {
		v, err = command.View{ID: command.ID(uuid.NewString()), Status: command.StatusRunning}, nil
	}
	if err != nil {
		return nil, err
	}
	return a.taken(ctx, by, v, replayed), nil
}

func (a *API) retry(ctx context.Context, by fleet.Token, in *struct {
	Idempotent
	OfCommand
}) (*issued, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte("retry " + string(id)))
	key, err := in.of(hash[:])
	if err != nil {
		return nil, err
	}
	v, replayed, err := a.commands.Retry(ctx, actor(ctx, by), id, key)
	if err != nil {
		return nil, err
	}
	return a.taken(ctx, by, v, replayed), nil
}

// of is the key with what it stands for.
func (i Idempotent) of(hash []byte) (command.Idempotency, error) {
	for _, c := range []byte(i.Key) {
		if c < ' ' || c > '~' {
			return command.Idempotency{}, invalid(complaint("header:Idempotency-Key", "must be printable ASCII"))
		}
	}
	return command.Idempotency{Key: i.Key, BodyHash: hash}, nil
}

// taken answers for a command that is committed, after waiting for its end as long as the client prefers. What goes
// wrong while waiting changes nothing about that.
func (a *API) taken(ctx context.Context, by fleet.Token, v command.View, replayed bool) *issued {
	out := &issued{Status: http.StatusAccepted, Location: commandPath(v.ID), RetryAfter: "1"}
	if replayed {
		out.Replayed = "true"
	}
	if wait := preferredWait(callOf(ctx).r.Header.Values("Prefer")); wait > 0 {
		until, stop := untilDrained(ctx)
		later, err := a.commands.Wait(until, by, v.ID, wait)
		stop()
		if err == nil {
			v = later
		} else {
			a.logger.Warn("waiting for a command failed", "command_id", v.ID, "error", err)
		}
		if err == nil && v.Status != command.StatusRunning {
			out.Status, out.RetryAfter = http.StatusOK, ""
			out.Applied = "wait=" + strconv.Itoa(int(wait/time.Second))
		}
	}
	out.Body = showCommand(v)
	return out
}

// OfCommand is a part of the input of calls about one command.
type OfCommand struct {
	ID string `path:"id" doc:"of the command"`
}

// parse spares the record what cannot be the id of a command.
func (c OfCommand) parse() (command.ID, error) {
	if !command.IsID(c.ID) {
		return "", command.ErrNotFound
	}
	return command.ID(c.ID), nil
}

type commandOut struct {
	Body command.View
}

func (a *API) getCommand(ctx context.Context, by fleet.Token, in *struct {
	OfCommand
	Wait int `query:"wait" minimum:"0" maximum:"60" doc:"seconds to wait for the command's end"`
}) (*commandOut, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	v, err := a.lookAt(ctx, by, id, time.Duration(in.Wait)*time.Second)
	if err != nil {
		return nil, err
	}
	return &commandOut{showCommand(v)}, nil
}

func (a *API) lookAt(ctx context.Context, by fleet.Token, id command.ID, wait time.Duration) (command.View, error) {
	if wait == 0 {
		return a.commands.Get(ctx, by, id)
	}
	until, stop := untilDrained(ctx)
	defer stop()
	v, err := a.commands.Wait(until, by, id, wait)
	if err != nil && ctx.Err() == nil && until.Err() != nil {
		return a.commands.Get(ctx, by, id) // the server goes away, the client is still there
	}
	return v, err
}

func (a *API) cancel(ctx context.Context, by fleet.Token, in *OfCommand) (*commandOut, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	v, err := a.commands.Cancel(ctx, actor(ctx, by), id)
	if err != nil {
		return nil, err
	}
	return &commandOut{showCommand(v)}, nil
}

// commandsIn is the query of a list of commands.
type commandsIn struct {
	Paged
	Period
	OperationFilter
	CommandID string         `query:"command_id"`
	Kind      command.Kind   `query:"kind" enum:"meter.read,meter.time_sync,meter.relay,device.ping"`
	Status    command.Status `query:"status" enum:"running,succeeded,cancelled,expired,failed,partial" doc:"of the command as a whole"`
	State     string         `query:"state" enum:"running,succeeded,cancelled,expired,failed,partial,queued,sent,delivered,accepted,dead" doc:"running, succeeded, cancelled, expired, failed and partial: the same as status; queued, sent, delivered, accepted and dead: commands with an operation in this state"`
}

// OperationFilter is what lists of operations, and of commands by their operations, can be narrowed to.
type OperationFilter struct {
	DeviceID   meterread.DeviceID `query:"device_id"`
	EndpointID meterread.DeviceID `query:"endpoint_id" doc:"the MQTT client that speaks for the device: itself or its IPC"`
	Group      string             `query:"group" doc:"devices that are in it now"`
	Code       string             `query:"code" doc:"of the error"`
}

// filter is the query as the record takes it.
func (in *commandsIn) filter() (command.CommandFilter, error) {
	f := command.CommandFilter{Kind: in.Kind, Status: in.Status, DeviceID: in.DeviceID, EndpointID: in.EndpointID, Group: in.Group,
		Code: in.Code, From: in.From, To: in.To}
	if err := in.check(); err != nil {
		return f, err
	}
	id, err := commandInQuery(in.CommandID)
	if err != nil {
		return f, err
	}
	f.ID = id
	switch s := command.State(in.State); {
	case s.Open() || s == command.Dead:
		f.State = s
	case in.State != "" && in.Status != "" && string(in.Status) != in.State:
		return f, invalid(complaint("?state", "must not say something else than status"))
	case in.State != "":
		f.Status = command.Status(in.State)
	}
	return f, nil
}

// commandInQuery reads the id of a command that a list is narrowed to; "" is none.
func commandInQuery(s string) (command.ID, error) {
	if s == "" {
		return "", nil
	}
	id, err := OfCommand{s}.parse()
	if err != nil {
		return "", invalid(complaint("?command_id", "is not the id of a command"))
	}
	return id, nil
}

func (a *API) listCommands(ctx context.Context, by fleet.Token, in *commandsIn) (*listOut[command.View], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	found, err := a.commands.Commands(ctx, by, f, in.of())
	if err != nil {
		return nil, err
	}
	for i, v := range found.Items {
		found.Items[i] = showCommand(v)
	}
	return listed(found.Items, found.NextCursor), nil
}

func commandPath(id command.ID) string { return "/v1/commands/" + string(id) }

// showCommand is v with its links, and with empty lists where there are none.
func showCommand(v command.View) command.View {
	self := commandPath(v.ID)
	v.Links = map[string]string{"self": self, "operations": self + "/operations", "events": self + "/events",
		"cancel": self + "/cancel", "retry": self + "/retry"}
	if v.ParentID != nil {
		v.Links["parent"] = commandPath(*v.ParentID)
	}
	if v.Items == nil {
		v.Items = []meterread.Item{}
	}
	if v.Errors == nil {
		v.Errors = map[string]int{}
	}
	return v
}
