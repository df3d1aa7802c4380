package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"meterline/command"
	"meterline/fleet"
)

// watch is the event stream of a command.
func (a *API) watch(ctx context.Context, by fleet.Token, in *struct {
	OfCommand
	Last string `header:"Last-Event-ID" doc:"id of the last event that was seen"`
}) (*huma.StreamResponse, error) {
	id, err := in.parse()
	if err != nil {
		return nil, err
	}
	after, err := resumeAt(in.Last)
	if err != nil {
		return nil, err
	}
	looked, stop := context.WithTimeout(ctx, a.times.request)
	defer stop()
	if _, err := a.commands.Get(looked, by, id); err != nil {
		return nil, err
	}
	s := &stream{api: a, c: callOf(ctx), by: by, id: id, after: after}
	return &huma.StreamResponse{Body: func(h huma.Context) { s.run(h.Context()) }}, nil
}

// Event ids. Operations that moved in one transaction share their Changed number, so an id is that number and the
// place among them: it rises with every event, and somebody whose connection broke between two of them is told all of
// them again.
const (
	placeBits = 20
	lastPlace = 1<<placeBits - 1
)

func eventID(changed int64, place int, last bool) int64 {
	if last {
		place = lastPlace
	}
	return changed<<placeBits | int64(min(place, lastPlace))
}

// resumeAt is the Changed number after which a stream goes on; -1 is before the first.
func resumeAt(last string) (int64, error) {
	if last == "" {
		return -1, nil
	}
	id, err := strconv.ParseInt(last, 10, 64)
	if err != nil || id < 0 {
		return 0, invalid(complaint("header:Last-Event-ID", "is not an id of this stream"))
	}
	if id&lastPlace == lastPlace {
		return id >> placeBits, nil
	}
	return id>>placeBits - 1, nil
}

// stream is one event stream. One goroutine only.
type stream struct {
	api   *API
	c     *call
	by    fleet.Token
	id    command.ID
	after int64 // the Changed number up to which everything was told
	wrote time.Time
}

// run writes events until the command has ended, the client or the server goes away, or the record cannot be read: then
// the client comes back with the last id.
func (s *stream) run(ctx context.Context) {
	s.api.metrics.streams.Inc()
	defer s.api.metrics.streams.Dec()
	ctx, stop := untilDrained(ctx)
	defer stop()
	h := s.c.w.Header()
	h.Set("Content-Type", eventsType)
	h.Set("X-Accel-Buffering", "no") // proxies must not wait for more
	s.c.w.WriteHeader(200)
	if err := s.write([]byte("retry: 1000\n\n")); err != nil {
		return
	}
	for ctx.Err() == nil {
		done, err := s.runOnce(ctx)
		if err == nil && done {
			err = s.end(ctx)
		}
		if err != nil && ctx.Err() == nil {
			_ = s.api.problem(s.c, err) // logs it
		}
		if err != nil || done {
			return
		}
	}
}

// runOnce tells what has changed, or after a while of silence that the stream lives.
func (s *stream) runOnce(ctx context.Context) (done bool, err error) {
	look, stop := context.WithTimeout(ctx, s.api.times.heartbeat-time.Since(s.wrote))
	ops, done, err := s.api.commands.Changes(look, s.by, s.id, s.after)
	stop()
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		err = nil
	}
	if err != nil {
		return false, err
	}
	if len(ops) > 0 {
		return done, s.tell(ops)
	}
	if !done && time.Since(s.wrote) >= s.api.times.heartbeat {
		return false, s.write([]byte(": still here\n\n"))
	}
	return done, nil
}

func (s *stream) tell(ops []command.OperationView) error {
	var events bytes.Buffer
	place := 0
	for i, o := range ops {
		last := i+1 == len(ops) || ops[i+1].Changed != o.Changed
		data, err := json.Marshal(o)
		if err != nil {
			return err
		}
		events.WriteString("id: " + strconv.FormatInt(eventID(o.Changed, place, last), 10) + "\ndata: ")
		events.Write(data)
		events.WriteString("\n\n")
		if place++; last {
			place = 0
		}
	}
	s.after = ops[len(ops)-1].Changed
	return s.write(events.Bytes())
}

// end tells how the command ended.
func (s *stream) end(ctx context.Context) error {
	v, err := s.api.commands.Get(ctx, s.by, s.id)
	if err != nil {
		return err
	}
	v.Operations, v.Encoded = nil, nil
	data, err := json.Marshal(showCommand(v))
	if err != nil {
		return err
	}
	return s.write([]byte("event: end\ndata: " + string(data) + "\n\n"))
}

// write sends at once, and gives up on a client that does not read.
func (s *stream) write(b []byte) error {
	_ = s.c.control.SetWriteDeadline(time.Now().Add(s.api.times.write))
	if _, err := s.c.w.Write(b); err != nil {
		return errors.Join(context.Canceled, err) // the client's doing
	}
	s.wrote = time.Now()
	if err := s.c.control.Flush(); err != nil {
		return errors.Join(context.Canceled, err)
	}
	return nil
}
