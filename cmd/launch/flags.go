package launch

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kong"
)

// The exit statuses.
const (
	StatusOK     = 0
	StatusFailed = 1 // something out there is not as needed: a server away, a schema not migrated
	StatusUsage  = 2 // a flag or an environment variable is wrong
)

// envPrefix begins the environment variable of every flag: --redis-url is METERLINE_REDIS_URL.
const envPrefix = "METERLINE"

// Parse fills cli from args and the environment. Every flag is also METERLINE_…; where that is not set, METERLINE_…_FILE
// names a file that holds the value. The error is one line that names the flag. help says that only help was asked for,
// and given.
func Parse(cli any, name, about string, args []string, stdout io.Writer) (ctx *kong.Context, help bool, err error) {
	parser, err := kong.New(cli,
		kong.Name(name), kong.Description(about), kong.DefaultEnvars(envPrefix), kong.Resolvers(files()),
		kong.Writers(stdout, stdout), kong.Exit(func(int) { help = true; panic(errHelp) }),
	)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if r := recover(); r != nil && r != any(errHelp) {
			panic(r)
		}
	}()
	ctx, err = parser.Parse(args)
	return ctx, false, err
}

// errHelp unwinds Parse when kong has printed help and would exit.
var errHelp = errors.New("help was printed")

// files reads a flag from the file that METERLINE_…_FILE names.
func files() kong.Resolver {
	return kong.ResolverFunc(func(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
		for _, env := range flag.Envs {
			path, ok := os.LookupEnv(env + "_FILE")
			if _, direct := os.LookupEnv(env); !ok || direct {
				continue
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("%s_FILE: %w", env, err)
			}
			return strings.TrimSpace(string(b)), nil
		}
		return nil, nil // kong: nothing to say about this flag
	})
}

// Status says an error in one line and gives the exit status.
func Status(stderr io.Writer, name string, err error, status int) int {
	if err == nil {
		return StatusOK
	}
	line := strings.Join(strings.Fields(err.Error()), " ")
	_, _ = fmt.Fprintf(stderr, "%s: %s\n", name, line)
	return status
}
