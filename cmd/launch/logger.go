package launch

import (
	"io"
	"log/slog"
)

// Logging are the flags of every program's log.
type Logging struct {
	LogLevel  slog.Level `default:"info" help:"debug, info, warn or error."`
	LogFormat string     `default:"text" enum:"text,json" help:"text or json."`
}

// Logger makes the log of a program.
func (l Logging) Logger(w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: l.LogLevel}
	if l.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
