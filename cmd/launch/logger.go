package launch

import (
	"errors"
	"io"
	"log/slog"
)

// Logging are the flags of every program's log.
type Logging struct {
	LogLevel  Level  `default:"info" help:"debug, info, warn or error."`
	LogFormat string `default:"text" enum:"text,json" help:"text or json."`
}

// Level is a level of the log as a flag: what cannot be read says what could.
type Level slog.Level

// UnmarshalText is called by kong.
func (l *Level) UnmarshalText(text []byte) error {
	if (*slog.Level)(l).UnmarshalText(text) != nil {
		return errors.New("must be debug, info, warn or error")
	}
	return nil
}

// Logger makes the log of a program.
func (l Logging) Logger(w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: slog.Level(l.LogLevel)}
	if l.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
