package httpapi

import (
	"context"
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

type letterSelection = command.LetterSelection

func (a *API) addLetters() {
	look := []fleet.Scope{fleet.DeadLettersWrite, fleet.AuditRead}
	decide := []fleet.Scope{fleet.DeadLettersWrite}
	add(a, route{method: http.MethodGet, path: "/v1/dead-letters", id: "listDeadLetters", tag: "dead letters",
		summary: "List what could not be understood or was given up, newest first",
		text:    "Of payloads the first 4096 bytes are shown.", scopes: look}, a.listLetters)
	add(a, route{method: http.MethodGet, path: "/v1/dead-letters/causes", id: "listDeadLetterCauses", tag: "dead letters",
		summary: "Count dead letters by cause", text: "Those that are open, unless a status is named; the cause with most of them first.",
		scopes: look}, a.listCauses)
	add(a, route{method: http.MethodGet, path: "/v1/dead-letters/{id}", id: "getDeadLetter", tag: "dead letters",
		summary: "Show a dead letter", text: "With the first 256 KiB of its payload.", scopes: look}, a.getLetter)
	add(a, route{method: http.MethodPost, path: "/v1/dead-letters/{id}/replay", id: "replayDeadLetter", tag: "dead letters",
		summary: "Handle it again",
		text: "An uplink as it was. The answer waits for that, for a second at most: `handled_at` says when it was, `again` whether " +
			"it is a dead letter again. " +
			"A dead operation becomes a new command at once, which needs commands:write too.",
		scopes: decide, errors: []int{http.StatusConflict, http.StatusUnprocessableEntity}}, a.replay)
	add(a, route{method: http.MethodPost, path: "/v1/dead-letters/{id}/discard", id: "discardDeadLetter", tag: "dead letters",
		summary: "Close it without doing anything", scopes: decide, errors: []int{http.StatusConflict}}, a.discard)
	add(a, route{method: http.MethodPost, path: "/v1/dead-letters/replay", id: "replayDeadLetters", tag: "dead letters",
		summary: "Handle many again",
		text: "The oldest open ones that match, up to `limit`, and up to 100 new commands: dead operations of one command become one. " +
			"While `more` is true there is more to do: call again. Dead operations are passed over unless the token may issue " +
			"their command.",
		scopes: decide, body: letterSelection{}, errors: []int{http.StatusConflict}}, a.replayMany)
	add(a, route{method: http.MethodPost, path: "/v1/dead-letters/discard", id: "discardDeadLetters", tag: "dead letters",
		summary: "Close many without doing anything", text: "The oldest open ones that match, up to `limit`.",
		scopes: decide, body: letterSelection{}, errors: []int{http.StatusConflict}}, a.discardMany)
}

// LetterFilter is what lists of dead letters can be narrowed to.
type LetterFilter struct {
	Period
	Cause      string             `query:"cause" doc:"a code; one that does not exist is refused"`
	Status     string             `query:"status" enum:"open,replayed,discarded"`
	Source     string             `query:"source" enum:"uplink,operation"`
	EndpointID meterread.DeviceID `query:"endpoint_id" doc:"who sent the uplink; where the operation was to go"`
	DeviceID   meterread.DeviceID `query:"device_id"`
	CommandID  string             `query:"command_id"`
	ParentID   string             `query:"parent_id" doc:"the dead letter that was replayed and failed again"`
	DecisionID string             `query:"decision_id" doc:"the call that replayed or discarded them"`
}

func (f LetterFilter) filter() (command.DeadLetterFilter, error) {
	id, err := commandInQuery(f.CommandID)
	if err == nil {
		err = f.Period.check()
	}
	if err == nil {
		err = f.check()
	}
	return command.DeadLetterFilter{Cause: f.Cause, Status: f.Status, Source: f.Source, EndpointID: f.EndpointID, DeviceID: f.DeviceID,
		CommandID: id, ParentID: f.ParentID, DecisionID: f.DecisionID, From: f.From, To: f.To}, err
}

// check complains about what nothing can match.
func (f LetterFilter) check() error {
	var bad []fieldError
	if f.Cause != "" && !slices.Contains(command.Causes, f.Cause) {
		bad = append(bad, complaint("?cause", "must be one of "+strings.Join(command.Causes, ", ")))
	}
	if f.ParentID != "" && !command.IsID(f.ParentID) {
		bad = append(bad, complaint("?parent_id", "is not the id of a dead letter"))
	}
	if f.DecisionID != "" && !command.IsID(f.DecisionID) {
		bad = append(bad, complaint("?decision_id", "is not the id of a decision"))
	}
	if len(bad) == 0 {
		return nil
	}
	return invalid(bad...)
}

func (a *API) listLetters(ctx context.Context, by fleet.Token, in *struct {
	Paged
	LetterFilter
}) (*listOut[command.DeadLetter], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	found, err := a.commands.DeadLetters(ctx, by, f, in.of())
	if err != nil {
		return nil, err
	}
	for i, l := range found.Items {
		found.Items[i] = showLetter(l)
	}
	return listed(found.Items, found.NextCursor), nil
}

func (a *API) listCauses(ctx context.Context, by fleet.Token, in *LetterFilter) (*listOut[command.LetterCause], error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	if f.Status == "" {
		f.Status = command.LetterOpen
	}
	found, err := a.commands.DeadLetterCauses(ctx, by, f)
	if err != nil {
		return nil, err
	}
	return listed(found, ""), nil
}

// letterID is the input of calls about one dead letter.
type letterID struct {
	ID string `path:"id" doc:"of the dead letter"`
}

// check spares the record what cannot be the id of a dead letter.
func (l letterID) check() error {
	if _, err := meterread.ParseDeviceID(l.ID); err != nil { // ids of both are made of the same characters
		return command.ErrNotFound
	}
	return nil
}

type letterOut struct {
	Body command.DeadLetter
}

func (a *API) getLetter(ctx context.Context, by fleet.Token, in *letterID) (*letterOut, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	l, err := a.commands.DeadLetter(ctx, by, in.ID)
	if err != nil {
		return nil, err
	}
	return &letterOut{showWholeLetter(l)}, nil
}

func (a *API) replay(ctx context.Context, by fleet.Token, in *letterID) (*letterOut, error) {
	return a.decideLetter(ctx, by, in, a.commands.Replay)
}

func (a *API) discard(ctx context.Context, by fleet.Token, in *letterID) (*letterOut, error) {
	return a.decideLetter(ctx, by, in, a.commands.Discard)
}

func (a *API) decideLetter(ctx context.Context, by fleet.Token, in *letterID,
	decide func(context.Context, command.Actor, string) (command.DeadLetter, error)) (*letterOut, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	l, err := decide(ctx, actor(ctx, by), in.ID)
	if err != nil {
		return nil, err
	}
	return &letterOut{showWholeLetter(l)}, nil
}

// Repeatable is a part of the input of calls about many dead letters.
type Repeatable struct {
	Key string `header:"Idempotency-Key" maxLength:"255" doc:"the same key with the same body is the same decision, for 7 days: it goes on where it was cut off"`
}

// decidedOut is the answer to a call about many dead letters.
type decidedOut struct {
	Replayed string `header:"Idempotent-Replayed" doc:"true: the decision was there before, under the same key"`
	Body     command.BulkDecision
}

type manyIn struct {
	Repeatable
	RawJSON
}

func (a *API) replayMany(ctx context.Context, by fleet.Token, in *manyIn) (*decidedOut, error) {
	return a.decideMany(ctx, by, in, command.LetterReplayed)
}

func (a *API) discardMany(ctx context.Context, by fleet.Token, in *manyIn) (*decidedOut, error) {
	return a.decideMany(ctx, by, in, command.LetterDiscarded)
}

func (a *API) decideMany(ctx context.Context, by fleet.Token, in *manyIn, as string) (*decidedOut, error) {
	r, body, err := decode[letterSelection](in.RawBody)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(append([]byte(as+" "), body...))
	key, err := Idempotent{Key: in.Key}.of(hash[:])
	if err != nil {
		return nil, err
	}
	done, again, err := a.commands.DecideMany(ctx, actor(ctx, by), as, r, key)
	if err != nil {
		return nil, err
	}
	out := &decidedOut{Body: done}
	if again {
		out.Replayed = "true"
	}
	return out, nil
}

// payloadShown is how much of a payload is shown.
const payloadShown = 256 << 10

// showWholeLetter is l with its payload also as text, where it is.
func showWholeLetter(l command.DeadLetter) command.DeadLetter {
	if len(l.Payload) > payloadShown {
		l.Payload, l.PayloadCut = l.Payload[:payloadShown], true
	}
	if l.Source == command.LetterUplink {
		if text := textOf(l.Payload, l.PayloadCut); text != "" || len(l.Payload) == 0 {
			l.PayloadText = &text
		}
	}
	return showLetter(l)
}

// textOf is a payload as text; "" when it is none. A cut may have gone through a character.
func textOf(payload []byte, cut bool) string {
	for n := 0; cut && n < utf8.UTFMax-1 && !utf8.Valid(payload); n++ {
		payload = payload[:len(payload)-1]
	}
	if !utf8.Valid(payload) {
		return ""
	}
	return string(payload)
}

// showLetter is l with its links and the topic of its uplink.
func showLetter(l command.DeadLetter) command.DeadLetter {
	self := "/v1/dead-letters/"
	l.Links = map[string]string{"self": self + l.ID}
	if l.Status == command.LetterOpen {
		l.Links["discard"] = self + l.ID + "/discard"
		if l.Replayable() {
			l.Links["replay"] = self + l.ID + "/replay"
		}
	}
	if l.ParentID != "" {
		l.Links["parent"] = self + l.ParentID
	}
	if l.Again > 0 {
		l.Links["again"] = "/v1/dead-letters?parent_id=" + l.ID
	}
	if l.CommandID != "" {
		l.Links["command"] = commandPath(l.CommandID)
		if l.DeviceID != "" {
			l.Links["operation"] = "/v1/operations?command_id=" + url.QueryEscape(string(l.CommandID)) + "&device_id=" + url.QueryEscape(string(l.DeviceID))
		}
	}
	if l.NewCommand != "" {
		l.Links["new_command"] = commandPath(l.NewCommand)
	}
	switch l.Kind {
	case command.UplinkAck, command.UplinkResult, command.UplinkReadings, command.UplinkEvent:
		l.Topic = "meterline/v1/" + string(l.EndpointID) + "/up/" + string(l.Kind)
	}
	return l
}
