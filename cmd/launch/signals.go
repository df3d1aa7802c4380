package launch

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// Main is main: it runs until the first SIGINT or SIGTERM, which drains; a second one kills.
func Main(run func(ctx context.Context) int) {
	SpareHeap()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // from now on signals do what they do by themselves
	os.Exit(run(ctx))
}
