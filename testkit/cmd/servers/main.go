// Command servers runs a command with a PostgreSQL and a Redis beside it, and takes both down afterwards:
//
//	go run ./testkit/cmd/servers -- go test ./...
//
// The command finds them in METERLINE_TEST_POSTGRES_URL and METERLINE_TEST_REDIS_ADDR, as package testkit does. Its exit
// status becomes that of servers; 1 also means that a server could not be started, and 2 that the arguments are wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"meterline/testkit"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// grace is how long the command may take to end after it was told to.
const grace = 30 * time.Second

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(stderr, "usage: servers -- COMMAND [ARGUMENT...]")
		return 2
	}
	status, err := withServers(ctx, args, stdout, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "servers:", err)
		return max(status, 1)
	}
	return status
}

func withServers(ctx context.Context, args []string, stdout, stderr io.Writer) (status int, err error) {
	postgres, err := testkit.StartPostgres()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, postgres.Close()) }()
	redis, err := testkit.StartRedis()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, redis.Close()) }()

	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	cmd.Env = append(os.Environ(), testkit.EnvPostgresURL+"="+postgres.URL, testkit.EnvRedisAddr+"="+redis.Addr)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = grace
	err = cmd.Run()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return 1, errors.New("interrupted")
	case errors.As(err, &failed):
		return max(failed.ExitCode(), 1), nil // the command has said why
	}
	return 1, fmt.Errorf("run %s: %w", args[0], err)
}
