package command

import (
	"context"
	"slices"
	"time"
)

// letterCountEvery is how often open dead letters are counted for the metrics.
const letterCountEvery = 15 * time.Second

// countLetters shows how many dead letters are open until ctx is done. The owner of partition 0 does it for all, so that
// the sum over all workers is what there is.
func (w *Worker) countLetters(ctx context.Context) {
	if w.opt.Letters == nil {
		return
	}
	for ctx.Err() == nil {
		wait := time.Second // partition 0 may come to this worker
		if w.counts.Load() {
			w.countOnce(ctx)
			wait = letterCountEvery
		} else {
			w.opt.Metrics.Open.Reset()
		}
		pause(ctx, wait)
	}
}

func (w *Worker) countOnce(ctx context.Context) {
	open, err := w.opt.Letters.OpenLetters(ctx)
	if err != nil {
		if ctx.Err() == nil {
			w.opt.Logger.Warn("cannot count dead letters", "error", err)
		}
		return
	}
	for _, cause := range Causes {
		w.opt.Metrics.Open.WithLabelValues(cause).Set(float64(open[cause]))
	}
	other := 0
	for cause, n := range open {
		if !slices.Contains(Causes, cause) {
			other += n
		}
	}
	w.opt.Metrics.Open.WithLabelValues("other").Set(float64(other))
}
