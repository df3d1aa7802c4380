package command

import "time"

// PerKind is a setting that commands of some kinds may have for themselves. Whoever made it does not change it any more.
type PerKind[T any] struct {
	All T          // for every kind that has none of its own
	Own map[Kind]T // may be nil
}

// ForAll is a setting that all kinds share.
func ForAll[T any](v T) PerKind[T] { return PerKind[T]{All: v} }

// Of is the setting for a kind.
func (p PerKind[T]) Of(k Kind) T {
	if own, has := p.Own[k]; has {
		return own
	}
	return p.All
}

// What holds for a kind that nothing was set for.
const (
	DefaultAttempts   = 5
	DefaultRunTimeout = time.Minute
)

// DefaultRetryAfter is when an operation whose lease is over is sent again, for a kind that nothing was set for.
var DefaultRetryAfter = []time.Duration{5 * time.Second, 15 * time.Second, 45 * time.Second, 2 * time.Minute, 5 * time.Minute}

// MostAttempts is how often an operation may be sent.
const MostAttempts = 20
