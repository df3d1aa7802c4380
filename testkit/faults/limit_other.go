//go:build !linux

package faults

import (
	"context"
	"errors"
)

// limitFiles is for Linux alone.
func limitFiles(context.Context, int, uint64) error {
	return errors.New("the files of another process can be limited on Linux only")
}
