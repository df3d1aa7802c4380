package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	_ "modernc.org/sqlite" // the driver named sqlite

	"meterline/command"
	"meterline/fleet"
)

var (
	_ command.Ledger  = (*DB)(nil)
	_ command.Book    = (*DB)(nil)
	_ fleet.Registry  = (*DB)(nil)
	_ fleet.TokenBook = (*DB)(nil)
)

// DB is the record. All its methods are safe for concurrent use. Errors that mean that the database cannot be reached, or
// that it is not known whether it committed, are command.ErrUnavailable: everything can be repeated.
type DB struct {
	dialect
	writes *statements
	reads  *statements // the same as writes for PostgreSQL
	gate   *gate       // SQLite's only writer; nil for PostgreSQL
	server *server     // nil for SQLite
	url    string      // of PostgreSQL

	expansions expansions
	creations  creations
	open       openCounts

	// fixed when the schema was migrated
	partitions int
	fleetLock  int32 // class of the advisory locks on a tenant's fleet
	expandLock int32 // class of the advisory locks on commands that are expanded
	logLock    int32 // class of the advisory lock on the uplink log
}

// Options say where the record is.
type Options struct {
	// URL is postgres://user:password@host:port/database?sslmode=... or sqlite:PATH.
	URL string
	// Connections bounds the connections to PostgreSQL; 0 means 20. SQLite has one that writes and a few that read.
	Connections int
}

// ErrNotMigrated is what Open answers when the schema is missing or older than this program.
var ErrNotMigrated = errors.New("the database is not migrated: run `backend migrate`")

// Open connects to a migrated record. Its errors are one line and never hold the password.
func Open(ctx context.Context, opt Options) (*DB, error) {
	if path, ok := SQLitePath(opt.URL); ok {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("open %s: %w", path, ErrNotMigrated)
		}
	}
	db, err := connect(ctx, opt)
	if err != nil {
		return nil, err
	}
	db.expansions.patience = expandPatience
	db.creations.wait = togetherWait
	db.creations.of = map[fleet.Tenant]*creationQueue{}
	err = db.checkSchema(ctx)
	if err == nil {
		err = db.learn(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Close closes all connections. Transactions that still run end with an error.
func (db *DB) Close() error {
	db.server.close()
	err := db.writes.pool.Close()
	if db.reads != db.writes {
		err = errors.Join(err, db.reads.pool.Close())
	}
	return err
}

// Ping asks the database for a sign of life.
func (db *DB) Ping(ctx context.Context) error {
	_, err := db.Now(ctx)
	return err
}

// connect opens the pools without looking at what is in the database.
func connect(ctx context.Context, opt Options) (*DB, error) {
	if path, ok := SQLitePath(opt.URL); ok {
		return connectSQLite(ctx, path)
	}
	if strings.HasPrefix(opt.URL, "postgres://") || strings.HasPrefix(opt.URL, "postgresql://") {
		return connectPostgres(ctx, opt)
	}
	return nil, errors.New("the database URL must begin with sqlite: or postgres://")
}

// SQLitePath is the file of a database URL such as sqlite:meterline.db; false when the URL is not of a file.
func SQLitePath(databaseURL string) (string, bool) { return strings.CutPrefix(databaseURL, "sqlite:") }

const defaultConnections = 20

func connectPostgres(ctx context.Context, opt Options) (*DB, error) {
	u, err := url.Parse(opt.URL)
	if err != nil {
		return nil, errors.New("the database URL cannot be parsed") // the error of url.Parse holds it all
	}
	q := u.Query()
	for name, value := range postgresSettings {
		if !q.Has(name) {
			q.Set(name, value)
		}
	}
	// One round trip for a statement that is not prepared; and inputs are written in the format of the wire.
	q.Set("binary_parameters", "yes")
	u.RawQuery = q.Encode()
	connector, err := pq.NewConnector(u.String())
	if err != nil {
		return nil, fmt.Errorf("open PostgreSQL at %s: %s", u.Host, oneLine(err))
	}
	server := newServer()
	connector.Dialer(server)
	pool := sqlx.NewDb(sql.OpenDB(connector), "postgres")
	n := opt.Connections
	if n <= 0 {
		n = defaultConnections
	}
	pool.SetMaxOpenConns(n)
	pool.SetMaxIdleConns(n)
	if err := pool.PingContext(ctx); err != nil {
		_ = pool.Close()
		return nil, fmt.Errorf("%w: PostgreSQL at %s: %s", command.ErrUnavailable, u.Host, oneLine(err))
	}
	s := newStatements(pool)
	return &DB{dialect: dialect{postgres: true}, writes: s, reads: s, server: server, url: u.String()}, nil
}

// postgresSettings are what every connection asks for, unless the URL says otherwise.
var postgresSettings = map[string]string{
	"application_name": "meterline",
	"connect_timeout":  "5",
	"timezone":         "UTC",
	// A process that stands still in the middle of a transaction must not hold its locks for long: those who would take
	// its partitions over wait for them.
	"idle_in_transaction_session_timeout": "5s",
	// Every statement is written for one index. Prepared while a table is small, it would otherwise be planned to read it
	// all, and keep that plan while the table grows.
	"enable_seqscan":   "off",
	"enable_hashjoin":  "off",
	"enable_mergejoin": "off",
	// Of a table that has grown since it was analysed the planner believes that reading all of it once for every join is
	// cheaper than looking each row up.
	"enable_material": "off",
	"jit":             "off",
	// A statement with few rows to write seems cheaper when it is planned for just these, time and again: the plan is always the
	// same, and making it takes longer than carrying it out. Lists ask for something else: see search.
	"plan_cache_mode": "force_generic_plan",
}

// readers is how many connections read SQLite beside its writer.
const readers = 4

func connectSQLite(ctx context.Context, path string) (*DB, error) {
	if path == "" {
		return nil, errors.New("the database URL sqlite: must name a file")
	}
	open := func(n int, more string) (*sqlx.DB, error) {
		pool, err := sqlx.Open("sqlite", "file:"+url.PathEscape(path)+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"+
			"&_pragma=busy_timeout(5000)&_pragma=foreign_keys(1)&_pragma=cache_size(-65536)&_time_format=sqlite"+more)
		if err != nil {
			return nil, fmt.Errorf("open %s: %s", path, oneLine(err))
		}
		pool.SetMaxOpenConns(n)
		pool.SetMaxIdleConns(n)
		if err := pool.PingContext(ctx); err != nil {
			_ = pool.Close()
			return nil, fmt.Errorf("%w: open %s: %s", command.ErrUnavailable, path, oneLine(err))
		}
		return pool, nil
	}
	writer, err := open(1, "&_txlock=immediate")
	if err != nil {
		return nil, err
	}
	reader, err := open(readers, "&_txlock=deferred&_pragma=query_only(1)")
	if err != nil {
		return nil, errors.Join(err, writer.Close())
	}
	return &DB{writes: newStatements(writer), reads: newStatements(reader), gate: &gate{}}, nil
}

// learn reads what is fixed in a migrated schema.
func (db *DB) learn(ctx context.Context) error {
	s, err := db.Settings(ctx)
	if err != nil {
		return err
	}
	db.partitions = s.Partitions
	if !db.postgres {
		return nil
	}
	// Advisory locks are shared by all schemas of a database: the tables' own numbers keep them apart.
	return db.single(ctx, func(t *tx) error {
		var oids struct {
			Devices  int64 `db:"devices"`
			Commands int64 `db:"commands"`
			Log      int64 `db:"log"`
		}
		err := t.get(&oids, `
			SELECT 'devices'::regclass::oid::bigint AS devices, 'commands'::regclass::oid::bigint AS commands,
				'uplink_log'::regclass::oid::bigint AS log`)
		db.fleetLock, db.expandLock, db.logLock = int32(oids.Devices), int32(oids.Commands), int32(oids.Log)
		return err
	})
}

func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// missing says whether a row that was asked for is not there.
func missing(err error) bool { return errors.Is(err, sql.ErrNoRows) }
