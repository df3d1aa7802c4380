package command

import (
	"context"
	"time"

	"meterline/fault"
)

// Expander makes the operations of large commands.
type Expander struct {
	service *Service

	// one goroutine only
	pace pace          // of operations
	took time.Duration // the last transaction
}

// NewExpander makes an Expander beside a Service.
func NewExpander(s *Service) *Expander { return &Expander{service: s, pace: pace{alone: expandChunk}} }

const (
	expandChunk = 2000
	expandEvery = 200 * time.Millisecond
)

// Run expands large commands, a chunk a transaction, until ctx is done. Several processes may do it at once.
func (e *Expander) Run(ctx context.Context) error {
	wait := expandEvery
	for ctx.Err() == nil {
		found, err := e.runOnce(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			e.service.opt.Logger.Warn("cannot expand a command", "error", err)
			wait = min(2*wait, backOffMost)
		case found:
			wait = expandEvery
			if e.service.opt.Readers.there() {
				pause(ctx, e.took)
			}
			continue
		default:
			wait = expandEvery
		}
		pause(ctx, wait)
	}
	return nil
}

func (e *Expander) runOnce(ctx context.Context) (bool, error) {
	began := time.Now()
	made, found, err := e.service.opt.Book.Expand(ctx, e.pace.most(e.service.opt.Readers.there()), Born)
	if err != nil || !found {
		return found, err
	}
	e.took = time.Since(began)
	e.pace.took(len(made.Operations), e.took)
	fault.Point(fault.ExpandCommitted)
	e.service.tellArrived(ctx, made)
	return true, nil
}
