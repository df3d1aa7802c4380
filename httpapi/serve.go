package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// drainTime is how long requests may go on after the server was told to stop.
const drainTime = 10 * time.Second

// Serve answers requests on l until ctx is done, then lets those under way end: long polls and event streams at once,
// the others within 10 s, after which their connections are closed. It closes l and returns nil after an orderly stop.
//
// With TLS it speaks https, HTTP/2 too.
//
// There is no write timeout for all: each request sets deadlines of its own.
func Serve(ctx context.Context, l net.Listener, secure *tls.Config, h http.Handler, logger *slog.Logger) error {
	serving, drain := context.WithCancel(context.Background())
	defer drain()
	s := &http.Server{
		Handler:           h,
		TLSConfig:         secure,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), servingKey{}, serving)
		},
	}
	failed := make(chan error, 1)
	go func() {
		if secure != nil {
			failed <- s.ServeTLS(l, "", "")
			return
		}
		failed <- s.Serve(l)
	}()
	select {
	case err := <-failed:
		return fmt.Errorf("serve http: %w", err)
	case <-ctx.Done():
	}
	drain()
	within, stop := context.WithTimeout(context.Background(), drainTime)
	defer stop()
	err := s.Shutdown(within)
	if err != nil {
		logger.Warn("closing connections that did not end in time", "error", err)
		err = s.Close()
	}
	if ended := <-failed; !errors.Is(ended, http.ErrServerClosed) {
		err = errors.Join(err, ended)
	}
	if err != nil {
		return fmt.Errorf("stop http: %w", err)
	}
	return nil
}

// servingKey is where requests find a context that ends when the server is told to stop. Their own does not: most of
// them may end in peace.
type servingKey struct{}

// untilDrained is ctx, but over as soon as the server is told to stop.
func untilDrained(ctx context.Context) (context.Context, context.CancelFunc) {
	until, cancel := context.WithCancel(ctx)
	serving, ok := ctx.Value(servingKey{}).(context.Context)
	if !ok {
		return until, cancel
	}
	stop := context.AfterFunc(serving, cancel)
	return until, func() {
		stop()
		cancel()
	}
}

// draining says whether the server was told to stop.
func draining(ctx context.Context) bool {
	serving, ok := ctx.Value(servingKey{}).(context.Context)
	return ok && serving.Err() != nil
}
