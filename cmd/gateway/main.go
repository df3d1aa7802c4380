// Command gateway is one MQTT edge node: devices and IPCs connect to it, and what they publish is durable in the uplink log
// before it is acknowledged.
package main

import (
	"context"
	"io"
	"os"
	"slices"

	"meterline/cmd/launch"
)

const about = "One MQTT edge node. Devices and IPCs connect to it; what they publish is durable before it is acknowledged. Every flag is also an environment variable: --redis-url is METERLINE_REDIS_URL, or METERLINE_REDIS_URL_FILE for a file that holds the value. gateway config print writes an example of that."

func main() {
	launch.Main(func(ctx context.Context) int { return run(ctx, os.Args[1:], os.Stdout, os.Stderr) })
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if slices.Equal(args, []string{"config", "print"}) {
		return launch.Status(stderr, "gateway", launch.Example(stdout, &config{}, "gateway", ""), launch.StatusFailed)
	}
	var c config
	_, help, err := launch.Parse(&c, "gateway", about, args, stdout)
	if help {
		return launch.StatusOK
	}
	if err != nil {
		return launch.Status(stderr, "gateway", err, launch.StatusUsage)
	}
	return launch.Status(stderr, "gateway", c.serve(ctx, stderr), launch.StatusFailed)
}
