// Command backend takes meter-reading commands by HTTP, works for them, and answers for them: as API and workers beside
// gateways (serve), or as everything in one process (standalone, demo).
package main

import (
	"context"
	"io"
	"os"

	"meterline/cmd/launch"
)

const about = "Takes meter-reading commands by HTTP, sends them by MQTT and keeps every reading. Every flag is also an environment variable: --redis-url is METERLINE_REDIS_URL, or METERLINE_REDIS_URL_FILE for a file that holds the value."

func main() {
	launch.Main(func(ctx context.Context) int { return run(ctx, os.Args[1:], os.Stdout, os.Stderr) })
}

// commands are the subcommands.
type commands struct {
	Serve      serveCmd      `cmd:"" help:"API and workers, over one PostgreSQL and one Redis, beside one or more gateways."`
	Standalone standaloneCmd `cmd:"" help:"Everything in one process, empty: SQLite file, live state in memory."`
	Demo       demoCmd       `cmd:"" help:"Everything in one process, with simulated meters: registers them, reads them, prints the readings, stays up."`
	Migrate    migrateCmd    `cmd:"" help:"Brings the schema up to date and makes what the processes share."`
	User       userCmd       `cmd:"" help:"People who sign in with a password."`
	Token      tokenCmd      `cmd:"" help:"API tokens."`
	Config     configCmd     `cmd:"" help:"Example configuration."`
	OpenAPI    openapiCmd    `cmd:"" name:"openapi" help:"Prints the description of the HTTP API, OpenAPI 3.1 in YAML."`
}

// program is what a subcommand runs in.
type program struct {
	ctx            context.Context // kong calls Run without one
	stdin          io.Reader
	stdout, stderr io.Writer
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var c commands
	parsed, help, err := launch.Parse(&c, "backend", about, args, stdout)
	if help {
		return launch.StatusOK
	}
	if err != nil {
		return launch.Status(stderr, "backend", err, launch.StatusUsage)
	}
	err = parsed.Run(&program{ctx, os.Stdin, stdout, stderr})
	return launch.Status(stderr, "backend", err, launch.StatusFailed)
}
