package launch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// Debugging is the flag of those who want to look into a running program.
type Debugging struct {
	Debug string `name:"debug" placeholder:"HOST:PORT" help:"Where to serve profiles of this process (net/http/pprof), without a token: a loopback address. Default: not at all."`
}

// Check says what is wrong with the flag, if anything. Profiles never stand beside the API, which answers at http: whoever may
// call the one may not see the other.
func (d Debugging) Check(http string) error {
	if d.Debug == "" {
		return nil
	}
	if err := CheckAddress("debug", d.Debug); err != nil {
		return err
	}
	if _, port, _ := net.SplitHostPort(d.Debug); d.Debug == http && port != "0" {
		return errors.New("--debug: must be another address than that of --http")
	}
	return nil
}

// Profiles puts the server of profiles on the stack, where the flag asks for it. It belongs at the bottom: also what the program
// does while it drains can be looked at.
func (d Debugging) Profiles(ctx context.Context, stack *Stack, logger *slog.Logger) error {
	if d.Debug == "" {
		return nil
	}
	listener, err := Listen(ctx, d.Debug)
	if err != nil {
		return fmt.Errorf("--debug: %w", err)
	}
	at := "http://" + listener.Addr().String() + profilesPath
	if tcp, is := listener.Addr().(*net.TCPAddr); is && !tcp.IP.IsLoopback() {
		logger.Warn("profiles are served beyond loopback: whoever reaches this address can read and slow down this process", "debug", at)
	} else {
		logger.Info("profiles are served", "debug", at)
	}
	stack.Go("profiles", func(ctx context.Context) error { serveProfiles(ctx, listener, logger); return nil })
	return nil
}

// profilesPath is where `go tool pprof` and all who know net/http/pprof look.
const profilesPath = "/debug/pprof/"

// profiles serves what net/http/pprof does, but for the command line, which may hold passwords, and symbols, which profiles of Go
// bring along. That package also adds itself to http.DefaultServeMux, which nothing of ours serves.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+profilesPath, pprof.Index)
	mux.HandleFunc("GET "+profilesPath+"profile", pprof.Profile)
	mux.HandleFunc("GET "+profilesPath+"trace", pprof.Trace)
	return mux
}

// profilesEnd is how long a profile that is being taken when the program ends has to be handed over.
const profilesEnd = time.Second

// serveProfiles serves until ctx is done. A profile that is being taken then ends there and is whole. That it can serve no longer
// is no reason for the program to end.
func serveProfiles(ctx context.Context, l net.Listener, logger *slog.Logger) {
	taking, end := context.WithCancel(context.Background())
	defer end()
	s := &http.Server{
		Handler: profiles(),
		// No ReadTimeout: it would end the request, and with it a profile that takes longer. The time of WriteTimeout begins when a
		// profile has been taken.
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return taking },
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		served <- err // to be told below
	case <-ctx.Done():
	}
	end()
	within, stop := context.WithTimeout(context.Background(), profilesEnd)
	defer stop()
	if s.Shutdown(within) != nil {
		_ = s.Close() // whoever does not take what it asked for
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		logger.Warn("profiles are served no longer", "error", err)
	}
}
