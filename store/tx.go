package store

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"

	"meterline/fault"
)

// runner is what *sqlx.DB and *sqlx.Tx have in common.
type runner interface {
	sqlx.QueryerContext
	sqlx.ExecerContext
}

// scanner is a row to scan.
type scanner interface{ Scan(dest ...any) error }

// tx is one transaction, or, for single statements that read, none. It lives no longer than the call it serves.
type tx struct {
	*DB
	ctx  context.Context
	run  runner
	tx   *sqlx.Tx    // nil outside a transaction
	book *statements // of the pool that run belongs to
	miss []string    // statements to prepare when the connection is free again
	free bool        // statements are many and each is rarely run: none is prepared
}

// statements are those prepared on one pool. A transaction must not prepare one there: it would wait for a second
// connection while it holds the first. It runs it as it is, and has it prepared after its end.
type statements struct {
	pool  *sqlx.DB
	mu    sync.RWMutex
	known map[string]*sqlx.Stmt
}

func newStatements(pool *sqlx.DB) *statements {
	return &statements{pool: pool, known: map[string]*sqlx.Stmt{}}
}

func (s *statements) find(text string) *sqlx.Stmt {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.known[text]
}

// learn prepares a statement. What cannot be prepared stays unprepared: whoever runs it hears why.
func (s *statements) learn(ctx context.Context, text string) {
	if s.find(text) != nil {
		return
	}
	made, err := s.pool.PreparexContext(ctx, text)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[text] != nil {
		_ = made.Close()
		return
	}
	s.known[text] = made
}

// stmt is the prepared statement to run text by; nil when there is none yet.
func (t *tx) stmt(text string) *sqlx.Stmt {
	if t.free {
		return nil
	}
	s := t.book.find(text)
	if s == nil {
		t.miss = append(t.miss, text)
		return nil
	}
	if t.tx != nil {
		return t.tx.StmtxContext(t.ctx, s)
	}
	return s
}

// exec runs a statement and says how many rows it changed.
func (t *tx) exec(text string, args ...any) (int, error) {
	cleanStrings(args)
	var r sql.Result
	var err error
	if s := t.stmt(text); s != nil {
		r, err = s.ExecContext(t.ctx, args...)
	} else {
		r, err = t.run.ExecContext(t.ctx, text, args...)
	}
	if err != nil {
		return 0, err
	}
	n, err := r.RowsAffected()
	return int(n), err
}

// get scans one row into dest; sql.ErrNoRows when there is none.
func (t *tx) get(dest any, text string, args ...any) error {
	cleanStrings(args)
	if s := t.stmt(text); s != nil {
		return s.GetContext(t.ctx, dest, args...)
	}
	return sqlx.GetContext(t.ctx, t.run, dest, text, args...)
}

// list scans all rows into the slice that dest points to.
func (t *tx) list(dest any, text string, args ...any) error {
	cleanStrings(args)
	if s := t.stmt(text); s != nil {
		return s.SelectContext(t.ctx, dest, args...)
	}
	return sqlx.SelectContext(t.ctx, t.run, dest, text, args...)
}

// each calls f for every row, to scan it.
func (t *tx) each(f func(scanner) error, text string, args ...any) error {
	cleanStrings(args)
	var rows *sqlx.Rows
	var err error
	if s := t.stmt(text); s != nil {
		rows, err = s.QueryxContext(t.ctx, args...)
	} else {
		rows, err = t.run.QueryxContext(t.ctx, text, args...)
	}
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := f(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// cleanStrings cleans the parameters that are strings: see clean.
func cleanStrings(args []any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = clean(s)
		}
	}
}

// now is the database's clock, read in the transaction.
func (t *tx) now() (time.Time, error) {
	if !t.postgres {
		return time.Now().UTC().Truncate(time.Microsecond), nil
	}
	var m moment
	if err := t.get(&m, `SELECT clock_timestamp()`); err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	return m.Time, nil
}

// tries is how often a transaction that others were in the way of is run.
const tries = 10

// write runs f in a transaction and commits it. f runs again when others were in its way, so it must leave nothing behind
// when it fails. Errors are those of told.
func (db *DB) write(ctx context.Context, p priority, f func(*tx) error) error {
	var err error
	for n := range tries {
		err = db.once(ctx, p, f)
		if err == nil || judge(err) != again {
			break
		}
		if wait(ctx, n) != nil {
			break
		}
	}
	if err != nil {
		return told(ctx, err)
	}
	return nil
}

// wait lets others finish: 1 to 2 ms at first, twice as long each time, 250 ms at most.
func wait(ctx context.Context, n int) error {
	d := min(time.Millisecond<<n, 250*time.Millisecond)
	t := time.NewTimer(d/2 + rand.N(d/2+1))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (db *DB) once(ctx context.Context, p priority, f func(*tx) error) error {
	if db.gate != nil {
		if err := db.gate.enter(ctx, p); err != nil {
			return err
		}
		defer db.gate.leave()
	}
	return db.transact(ctx, db.writes, nil, f)
}

// read runs f in a transaction that sees one moment and changes nothing.
func (db *DB) read(ctx context.Context, f func(*tx) error) error {
	err := db.transact(ctx, db.reads, &sql.TxOptions{ReadOnly: true, Isolation: db.snapshot()}, f)
	if err != nil {
		return told(ctx, err)
	}
	return nil
}

// snapshot is the isolation in which a reader sees one moment. SQLite's readers always do.
func (db *DB) snapshot() sql.IsolationLevel {
	if db.postgres {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}

func (db *DB) transact(ctx context.Context, book *statements, opt *sql.TxOptions, f func(*tx) error) error {
	if !db.postgres {
		opt = nil // the pools differ: one begins to write at once, the other cannot write
	}
	ctx, release, err := db.server.guard(ctx)
	if err != nil {
		return err
	}
	defer release()
	return silenced(ctx, db.inTransaction(ctx, book, opt, f))
}

func (db *DB) inTransaction(ctx context.Context, book *statements, opt *sql.TxOptions, f func(*tx) error) error {
	begun, err := book.pool.BeginTxx(ctx, opt)
	if err != nil {
		return err
	}
	t := &tx{DB: db, ctx: ctx, run: begun, tx: begun, book: book}
	defer func() {
		for _, text := range t.miss {
			book.learn(ctx, text)
		}
	}()
	done := false
	defer func() {
		if !done { // f failed or panicked
			_ = begun.Rollback()
		}
	}()
	if err := f(t); err != nil {
		return err
	}
	done = true
	if opt == nil || !opt.ReadOnly {
		fault.Point(fault.StoreCommitting)
	}
	err = begun.Commit()
	if opt == nil || !opt.ReadOnly {
		fault.Point(fault.StoreCommitted)
	}
	return err
}

// single runs f, which reads with one statement at a time, without a transaction.
func (db *DB) single(ctx context.Context, f func(*tx) error) error {
	t := &tx{DB: db, ctx: ctx, run: db.reads.pool, book: db.reads}
	return db.guarded(t, f)
}

// guarded runs f outside a transaction.
func (db *DB) guarded(t *tx, f func(*tx) error) error {
	asked := t.ctx
	ctx, release, err := db.server.guard(asked)
	if err != nil {
		return told(asked, err)
	}
	defer release()
	t.ctx = ctx
	err = silenced(ctx, f(t))
	for _, text := range t.miss {
		db.reads.learn(ctx, text)
	}
	if err != nil {
		return told(asked, err)
	}
	return nil
}

// search is for lists, whose statements are as many as there are combinations of filters. They are planned for what is asked.
func (db *DB) search(ctx context.Context, f func(*tx) error) error {
	if !db.postgres {
		return db.guarded(&tx{DB: db, ctx: ctx, run: db.reads.pool, book: db.reads, free: true}, f)
	}
	err := db.transact(ctx, db.reads, &sql.TxOptions{ReadOnly: true}, func(t *tx) error {
		t.free = true
		if err := t.planForThis(); err != nil {
			return err
		}
		return f(t)
	})
	if err != nil {
		return told(ctx, err)
	}
	return nil
}

// planForThis has the statements of the transaction planned for what they ask.
func (t *tx) planForThis() error {
	if !t.postgres {
		return nil
	}
	if _, err := t.exec(`SET LOCAL plan_cache_mode = force_custom_plan`); err != nil {
		return fmt.Errorf("choose how to plan: %w", err)
	}
	return nil
}
