package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"meterline/command"
)

// verdict is what becomes of a transaction that failed.
type verdict int

const (
	giveUp      verdict = iota // its error is about itself
	again                      // others were in its way
	unavailable                // the database cannot be reached, or cannot write
)

// asIs carries an error of the caller's own code through a transaction: it says nothing about the database.
type asIs struct{ error }

func (e asIs) Unwrap() error { return e.error }

// errAgain makes a transaction run again from its beginning.
var errAgain = errors.New("the transaction must run again")

func judge(err error) verdict {
	var own asIs
	if errors.As(err, &own) {
		return giveUp
	}
	if errors.Is(err, errAgain) {
		return again
	}
	if errors.Is(err, errSilent) {
		return unavailable
	}
	if pe := new(pq.Error); errors.As(err, &pe) {
		return judgePostgres(pe)
	}
	if se := new(sqlite.Error); errors.As(err, &se) {
		return judgeSQLite(se)
	}
	var ne net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return giveUp
	case errors.As(err, &ne), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, sql.ErrTxDone),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return unavailable
	}
	return giveUp
}

// lockNotAvailable is the SQLSTATE of a lock that was not given within lock_timeout.
const lockNotAvailable = "55P03"

func judgePostgres(err *pq.Error) verdict {
	switch err.Code {
	case "40001", "40P01", // serialization failure, deadlock
		"0A000": // cached plan must not change result type: a migration ran beside us
		return again
	case "57P01", "57P02", "57P03", // shutting down, crashed, starting up
		"25P03", "25006": // idle in transaction, read only
		return unavailable
	}
	switch err.Code[:2] {
	case "08", "53", "58": // connections, resources, the system beneath
		return unavailable
	}
	return giveUp
}

func judgeSQLite(err *sqlite.Error) verdict {
	switch err.Code() & 0xff {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return again
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM:
		return unavailable
	}
	return giveUp
}

// told is err as callers see it.
func told(ctx context.Context, err error) error {
	var own asIs
	if errors.As(err, &own) {
		return own.error
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	switch judge(err) {
	case again, unavailable:
		return fmt.Errorf("%w: %w", command.ErrUnavailable, err)
	}
	return err
}

func sqlState(err error) string {
	if pe := new(pq.Error); errors.As(err, &pe) {
		return string(pe.Code)
	}
	return ""
}
