package store

import (
	"context"
	"crypto/rand"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"strconv"

	"github.com/pressly/goose/v3"

	"meterline/fleet"
)

//go:embed migrations
var migrations embed.FS

// Partitions is how many parts a new installation divides its endpoints into. It is fixed from then on: see
// fleet.Partition.
const Partitions = 16

// Migrate brings the schema up to date and makes what all processes share. It may be run again, and by several at once:
// they wait for each other.
func Migrate(ctx context.Context, opt Options) (err error) {
	db, err := connect(ctx, opt)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.migrate(ctx); err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return db.makeShared(ctx)
}

// migrateLock is the key of the advisory lock that those who migrate a PostgreSQL database hold.
const migrateLock = 0x6d65746572 // "meter"

func (db *DB) migrate(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	if !db.postgres {
		return upSQLite(ctx, p)
	}
	c, err := db.writes.pool.Connx(ctx)
	if err != nil {
		return fmt.Errorf("take a connection: %w", err)
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, `SELECT pg_advisory_lock($1)`, migrateLock); err != nil {
		return fmt.Errorf("wait for other migrations: %w", err)
	}
	_, err = p.Up(ctx)
	_, unlock := c.ExecContext(ctx, `SELECT pg_advisory_unlock($1)`, migrateLock)
	return errors.Join(err, unlock)
}

// upSQLite tries again while another process is at it: each migration begins by taking the writer's lock, and whoever
// comes second finds the tables made.
func upSQLite(ctx context.Context, p *goose.Provider) error {
	var err error
	for n := range tries {
		if _, err = p.Up(ctx); err == nil {
			return nil
		}
		if wait(ctx, n) != nil {
			break
		}
	}
	return err
}

func (db *DB) provider() (*goose.Provider, error) {
	dialect, dir := goose.DialectSQLite3, "migrations/sqlite"
	if db.postgres {
		dialect, dir = goose.DialectPostgres, "migrations/postgres"
	}
	files, err := fs.Sub(migrations, dir)
	if err != nil {
		return nil, fmt.Errorf("find migrations: %w", err)
	}
	p, err := goose.NewProvider(dialect, db.writes.pool.DB, files)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}

// checkSchema is ErrNotMigrated unless every migration that this program knows has been made. A newer schema is accepted:
// while an installation is upgraded, old and new programs run together.
func (db *DB) checkSchema(ctx context.Context) error {
	p, err := db.provider()
	if err != nil {
		return err
	}
	sources := p.ListSources()
	var made int64
	err = db.single(ctx, func(t *tx) error {
		return t.get(&made, `SELECT COALESCE(max(version_id), 0) FROM goose_db_version WHERE is_applied`)
	})
	switch {
	case err != nil && (sqlState(err) == "42P01" || isMissingTable(err)), err == nil && made < sources[len(sources)-1].Version:
		return ErrNotMigrated
	case err != nil:
		return fmt.Errorf("look at the schema: %w", err)
	}
	return nil
}

// makeShared makes the settings and the partitions where they are not there yet.
func (db *DB) makeShared(ctx context.Context) error {
	random := func() string {
		var b [32]byte
		_, _ = rand.Read(b[:]) // never fails (crypto/rand)
		return base64.RawURLEncoding.EncodeToString(b[:])
	}
	return db.write(ctx, urgent, func(t *tx) error {
		for _, s := range [][2]string{
			{settingPartitions, strconv.Itoa(Partitions)}, {settingPepper, random()}, {settingBackendSecret, fleet.NewSecret()},
			{settingInstallation, random()},
		} {
			_, err := t.exec(`
				INSERT INTO settings (key, value)
				VALUES ($1, $2)
				ON CONFLICT (key) DO NOTHING`, s[0], s[1])
			if err != nil {
				return fmt.Errorf("make setting %s: %w", s[0], err)
			}
		}
		kept, err := t.settings()
		if err != nil {
			return err
		}
		for n := range kept.Partitions {
			if _, err := t.exec(`INSERT INTO partitions (n) VALUES ($1) ON CONFLICT (n) DO NOTHING`, n); err != nil {
				return fmt.Errorf("make partition: %w", err)
			}
		}
		return nil
	})
}
