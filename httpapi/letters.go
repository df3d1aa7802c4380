package httpapi

import (
	"context"
	"net/http"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

func (a *API) addLetters() {
	decide := []fleet.Scope{fleet.DeadLettersWrite}
	add(a, route{method: http.MethodGet, path: "/v1/dead-letters", id: "listDeadLetters", tag: "dead letters",
		summary: "List what could not be understood or was given up, newest first",
		scopes:  []fleet.Scope{fleet.DeadLettersWrite, fleet.AuditRead}}, a.listLetters)
	add(a, route{method: http.MethodPost, path: "/v1/dead-letters/{id}/replay", id: "replayDeadLetter", tag: "dead letters",
		summary: "Handle it again", text: "An uplink as it was; a dead operation becomes a new command.",
		scopes: decide, errors: []int{http.StatusConflict}}, a.replay)
	add(a, route{method: http.MethodPost, path: "/v1/dead-letters/{id}/discard", id: "discardDeadLetter", tag: "dead letters",
		summary: "Close it without doing anything", scopes: decide, errors: []int{http.StatusConflict}}, a.discard)
}

func (a *API) listLetters(ctx context.Context, by fleet.Token, in *struct {
	Paged
	Period
	Cause  string `query:"cause" doc:"a code"`
	Status string `query:"status" enum:"open,replayed,discarded"`
}) (*listOut[command.DeadLetter], error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	f := command.DeadLetterFilter{Cause: in.Cause, Status: in.Status, From: in.From, To: in.To}
	found, err := a.commands.DeadLetters(ctx, by, f, in.of())
	if err != nil {
		return nil, err
	}
	return listed(found.Items, found.NextCursor), nil
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

func (a *API) replay(ctx context.Context, by fleet.Token, in *letterID) (*letterOut, error) {
	return a.decideLetter(ctx, by, in, a.commands.Replay)
}

func (a *API) discard(ctx context.Context, by fleet.Token, in *letterID) (*letterOut, error) {
	return a.decideLetter(ctx, by, in, a.commands.Discard)
}

func (a *API) decideLetter(ctx context.Context, by fleet.Token, in *letterID,
	decide func(context.Context, fleet.Token, string) (command.DeadLetter, error)) (*letterOut, error) {
	if err := in.check(); err != nil {
		return nil, err
	}
	l, err := decide(ctx, by, in.ID)
	if err != nil {
		return nil, err
	}
	return &letterOut{l}, nil
}
