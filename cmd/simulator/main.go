// Command simulator runs a fleet of simulated meters and IPCs against a gateway, asks them through the HTTP API if it is
// told to, and reports throughput, latency, losses and duplicates. Exit status: 0 all well; 1 losses, duplicates or a
// server that cannot be reached; 2 a bad flag.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}
