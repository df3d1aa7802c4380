package httpapi

import (
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"time"

	"meterline/fleet"
)

const (
	// maxImport is how large an import may be, and importTime how long it may take in all.
	maxImport  = 256 << 20
	importTime = 15 * time.Minute
)

type importOut struct {
	Body fleet.ImportReport
}

// importDevices takes the body, which may come slowly but must keep coming, and hands it over once it is whole.
func (a *API) importDevices(ctx context.Context, by fleet.Token, in *struct {
	ContentType string `header:"Content-Type"`
}) (*importOut, error) {
	c := callOf(ctx)
	format := fleet.CSV
	if label, _, err := mime.ParseMediaType(in.ContentType); err == nil && label == ndjsonType {
		format = fleet.NDJSON
	}
	if c.r.ContentLength > maxImport {
		return nil, tooLarge(maxImport)
	}
	ctx, stop := context.WithTimeout(ctx, importTime)
	defer stop()
	body, err := spool(&incoming{from: http.MaxBytesReader(c.w, c.r.Body, maxImport), ctx: ctx, control: c.control, patience: a.times.body})
	if err != nil {
		return nil, unfinished(err)
	}
	defer func() {
		if err := body.Close(); err != nil {
			a.logger.Warn("an import is left on disk", "request_id", c.id, "error", err)
		}
	}()
	// The deadline was for the body, and would end the request while it is worked on.
	_ = c.control.SetReadDeadline(time.Time{})
	report, err := a.fleet.Import(ctx, actor(ctx, by), format, body)
	_ = c.control.SetWriteDeadline(time.Now().Add(a.times.write))
	if err != nil {
		return nil, err
	}
	return &importOut{report}, nil
}

// unfinished is what is wrong when a body could not be read.
func unfinished(err error) error {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return newProblem(http.StatusRequestTimeout, "BODY_TIMEOUT", "the body did not come in time")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return newProblem(http.StatusBadRequest, "BAD_REQUEST", "the body ended in the middle")
	}
	return err
}

// incoming is a body of which some part must arrive within the patience, again and again, until ctx is done.
type incoming struct {
	from     io.Reader
	ctx      context.Context
	control  *http.ResponseController
	patience time.Duration
}

func (i *incoming) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	_ = i.control.SetReadDeadline(time.Now().Add(i.patience))
	return i.from.Read(p)
}
