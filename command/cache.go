package command

import (
	"context"
	"fmt"
	"slices"
)

// commandCache keeps what does not change of commands that are being sent.
type commandCache map[ID]Command

// mostCommands bounds the cache; it is emptied when full.
const mostCommands = 10_000

// know fills the cache with the commands of the operations.
func (w *Worker) know(ctx context.Context, of []*Operation) error {
	var missing []ID
	for _, o := range of {
		if _, ok := w.commands[o.CommandID]; !ok && !slices.Contains(missing, o.CommandID) {
			missing = append(missing, o.CommandID)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	found, err := w.opt.Ledger.Commands(ctx, missing)
	if err != nil {
		return fmt.Errorf("load commands: %w", err)
	}
	if len(w.commands)+len(found) > mostCommands {
		missing = missing[:0]
		clear(w.commands)
		for _, o := range of {
			missing = append(missing, o.CommandID)
		}
		slices.Sort(missing)
		if found, err = w.opt.Ledger.Commands(ctx, slices.Compact(missing)); err != nil {
			return fmt.Errorf("load commands: %w", err)
		}
	}
	for id, c := range found {
		c.Selector = Selector{} // it may be large, and is not needed to send
		w.commands[id] = c
	}
	return nil
}
