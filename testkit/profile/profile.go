// Package profile takes CPU profiles of our programs through their --debug, from one moment to another, and reads them by
// `go tool pprof`.
package profile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Taking is a profile that is being taken.
type Taking struct {
	conn *net.TCPConn
}

// Longer than anything that is measured; and how long a program has to hand over what it took, or to be reached.
const (
	longest  = 24 * time.Hour
	handOver = time.Minute
)

// Begin begins to take the profile of the program whose --debug is at address. One of End and Drop must follow.
func Begin(address string) (*Taking, error) {
	conn, err := net.DialTimeout("tcp", address, handOver)
	if err != nil {
		return nil, fmt.Errorf("begin a profile: %w", err)
	}
	_, err = fmt.Fprintf(conn, "GET /debug/pprof/profile?seconds=%.0f HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", longest.Seconds(), address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("begin a profile: %w", err), conn.Close())
	}
	return &Taking{conn.(*net.TCPConn)}, nil
}

// Drop ends it for nothing.
func (t *Taking) Drop() error { return t.conn.Close() }

// End ends it now and writes it to a file. How long it was to take had to be said when it began, so it is ended as by somebody who
// goes away, but only half: our side of the connection is closed, and what there is comes by the other.
func (t *Taking) End(file string) (err error) {
	defer func() {
		if err = errors.Join(err, t.conn.Close()); err != nil {
			err = fmt.Errorf("end a profile: %w", err)
		}
	}()
	if err := errors.Join(t.conn.SetReadDeadline(time.Now().Add(handOver)), t.conn.CloseWrite()); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(t.conn), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d: %s", answer.StatusCode, strings.TrimSpace(string(body)))
	}
	return os.WriteFile(file, body, 0o600)
}

// Merge writes the sum of profiles of one program.
func Merge(ctx context.Context, to string, parts []string) error {
	return tool(ctx, append([]string{"-proto", "-output", to}, parts...)...)
}

// Top writes the functions that used most of a profile, as text.
func Top(ctx context.Context, to, of string) error {
	return tool(ctx, "-top", "-nodecount", "40", "-output", to, of)
}

// tool is `go tool pprof`, which comes with Go: nothing has to be required for it.
func tool(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "go", append([]string{"tool", "pprof"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go tool pprof: %w: %s", err, out)
	}
	return nil
}

// Known says whether a program, or a subcommand of it, has the flag --debug.
func Known(ctx context.Context, argv ...string) (bool, error) {
	out, err := exec.CommandContext(ctx, argv[0], append(argv[1:], "--help")...).Output()
	if err != nil {
		return false, fmt.Errorf("%s --help: %w", strings.Join(argv, " "), err)
	}
	return strings.Contains(string(out), "--debug="), nil
}
