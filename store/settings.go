package store

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"modernc.org/sqlite"

	"meterline/fleet"
)

// Settings are what all processes of an installation share. Migrate makes them, and nothing changes them.
type Settings struct {
	Partitions    int          // see fleet.Partition
	Pepper        fleet.Pepper // of device secrets; 32 bytes
	BackendSecret string       // by which backends sign in at gateways
	Installation  string       // tells this installation from every other
}

// The keys of settings.
const (
	settingPartitions    = "partitions"
	settingPepper        = "pepper"
	settingBackendSecret = "backend_secret"
	settingInstallation  = "installation"
)

// Settings reads what Migrate made.
func (db *DB) Settings(ctx context.Context) (s Settings, err error) {
	err = db.single(ctx, func(t *tx) error {
		s, err = t.settings()
		return err
	})
	return s, err
}

func (t *tx) settings() (Settings, error) {
	var rows []struct{ Key, Value string }
	if err := t.list(&rows, `SELECT key, value FROM settings`); err != nil {
		return Settings{}, fmt.Errorf("read settings: %w", err)
	}
	var s Settings
	var err error
	for _, r := range rows {
		var bad error
		switch r.Key {
		case settingPartitions:
			s.Partitions, bad = strconv.Atoi(r.Value)
		case settingPepper:
			s.Pepper, bad = base64.RawURLEncoding.DecodeString(r.Value)
		case settingBackendSecret:
			s.BackendSecret = r.Value
		case settingInstallation:
			s.Installation = r.Value
		}
		if bad != nil {
			err = errors.Join(err, fmt.Errorf("read setting %s: %w", r.Key, bad))
		}
	}
	if err == nil && (s.Partitions < 1 || len(s.Pepper) == 0 || s.BackendSecret == "") {
		err = ErrNotMigrated
	}
	return s, err
}

// isMissingTable says whether SQLite does not know a table.
func isMissingTable(err error) bool {
	se := new(sqlite.Error)
	return errors.As(err, &se) && strings.Contains(se.Error(), "no such table")
}
