package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// Snapshot implements command.Book.
func (db *DB) Snapshot(ctx context.Context, id command.ID, page int) (v command.View, tenant fleet.Tenant, whole bool, err error) {
	err = db.showing(ctx, func(now time.Time) ([]command.ID, error) {
		var unseen []command.ID
		err := db.read(ctx, func(t *tx) error {
			c, err := t.commandByID(id)
			if err != nil {
				return err
			}
			ops, err := t.operations(`
				SELECT `+operationColumns("")+`
				FROM operations
				WHERE command_id = $1
				ORDER BY device_id
				LIMIT $2`, string(id), page)
			if err != nil {
				return fmt.Errorf("its operations: %w", err)
			}
			v, tenant, whole = c.View(), c.Tenant, len(ops) == c.Counts.Total && !c.Expanding
			v.Operations = make([]command.OperationView, len(ops))
			for i, o := range ops {
				v.Operations[i] = o.View()
			}
			v = v.At(now)
			if overdue(c, now) {
				unseen = []command.ID{id}
			}
			return nil
		})
		return unseen, err
	})
	if err != nil {
		return command.View{}, "", false, fmt.Errorf("read command: %w", err)
	}
	return v, tenant, whole, nil
}

// overdue says whether showing c at now shows an expiry that nobody has been shown yet.
func overdue(c command.Command, now time.Time) bool {
	return c.Running() && !now.Before(c.ExpiresAt) && !c.ShownExpired
}

// showing runs read, which shows the record as it is at now. What has been shown as expired must stay so: when read names
// commands that nobody has been shown as expired yet, that is noted first, and read runs again, for the same moment.
func (db *DB) showing(ctx context.Context, read func(now time.Time) (unseen []command.ID, err error)) error {
	now, err := db.Now(ctx)
	if err != nil {
		return err
	}
	unseen, err := read(now)
	if err != nil || len(unseen) == 0 {
		return err
	}
	if err := db.Shown(ctx, unseen); err != nil {
		return err
	}
	_, err = read(now)
	return err
}

// Shown implements command.Book.
func (db *DB) Shown(ctx context.Context, ids []command.ID) error {
	if len(ids) == 0 {
		return nil
	}
	err := db.write(ctx, urgent, func(t *tx) error {
		// In order of ids, as everywhere.
		var due []command.ID
		err := t.list(&due, `
			SELECT id
			FROM commands
			WHERE `+t.among("id", 1)+` AND running AND NOT shown_expired AND expires_at <= `+t.clock(0)+`
			ORDER BY id`+t.lock("FOR NO KEY UPDATE"), texts(t.dialect, ids))
		if err != nil || len(due) == 0 {
			return err
		}
		_, err = t.exec(`UPDATE commands SET shown_expired = TRUE WHERE `+t.among("id", 1), texts(t.dialect, due))
		return err
	})
	if err != nil {
		return fmt.Errorf("note what was shown: %w", err)
	}
	return nil
}

// Cancel implements command.Book. A command that has ended, or whose deadline has passed, stays as it is.
func (db *DB) Cancel(ctx context.Context, by fleet.Actor, id command.ID) error {
	err := db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		n, err := t.exec(`
			UPDATE commands
			SET cancelled_at = CASE WHEN running AND expires_at > $3 THEN COALESCE(cancelled_at, $3) ELSE cancelled_at END
			WHERE id = $1 AND tenant = $2`, string(id), string(by.Tenant), at(now))
		if err == nil && n == 0 {
			err = command.ErrNotFound
		}
		if err != nil {
			return err
		}
		return t.record(now, by, fleet.Change{Action: fleet.CommandCancel, Kind: fleet.OnCommand, ID: string(id)})
	})
	if err != nil {
		return fmt.Errorf("cancel command: %w", err)
	}
	return nil
}

// ChangedSince implements command.Book. Operations that moved in one transaction are never torn apart, so that asking
// again after the last Changed misses none; the list may be longer than limit for that.
func (db *DB) ChangedSince(ctx context.Context, id command.ID, version int64, limit int) ([]command.OperationView, error) {
	var views []command.OperationView
	err := db.showing(ctx, func(now time.Time) ([]command.ID, error) {
		var unseen []command.ID
		err := db.read(ctx, func(t *tx) error {
			c, err := t.commandByID(id)
			if err != nil {
				return err
			}
			ops, err := t.changedSince(id, version, limit)
			if err != nil {
				return err
			}
			views = viewsAt(ops, now)
			if overdue(c, now) && anyOpen(ops) {
				unseen = []command.ID{id}
			}
			return nil
		})
		return unseen, err
	})
	if err != nil {
		return nil, fmt.Errorf("read changed operations: %w", err)
	}
	return views, nil
}

func (t *tx) changedSince(id command.ID, version int64, limit int) ([]*command.Operation, error) {
	var upTo int64 // the version of the last that fits
	err := t.get(&upTo, `
		SELECT COALESCE(max(changed), 0)
		FROM (SELECT changed FROM operations WHERE command_id = $1 AND changed > $2 ORDER BY changed LIMIT $3) AS page`,
		string(id), version, limit)
	if err != nil {
		return nil, err
	}
	return t.operations(`
		SELECT `+operationColumns("")+`
		FROM operations
		WHERE command_id = $1 AND changed > $2 AND changed <= $3
		ORDER BY changed, device_id`, string(id), version, upTo)
}

func viewsAt(ops []*command.Operation, now time.Time) []command.OperationView {
	views := make([]command.OperationView, len(ops))
	for i, o := range ops {
		views[i] = o.View().At(now, o.ExpiresAt)
	}
	return views
}

func anyOpen(ops []*command.Operation) bool {
	for _, o := range ops {
		if o.State.Open() {
			return true
		}
	}
	return false
}

// Unsuccessful implements command.Book.
func (db *DB) Unsuccessful(ctx context.Context, tenant fleet.Tenant, id command.ID) ([]meterread.DeviceID, error) {
	var ids []meterread.DeviceID
	err := db.showing(ctx, func(now time.Time) ([]command.ID, error) {
		var unseen []command.ID
		err := db.read(ctx, func(t *tx) error {
			c, err := t.commandByID(id)
			if err != nil {
				return err
			}
			if c.Tenant != tenant {
				return command.ErrNotFound
			}
			if overdue(c, now) {
				unseen = []command.ID{id}
			}
			ids = nil
			return t.list(&ids, `
				SELECT o.device_id
				FROM operations o
				JOIN devices d ON d.id = o.device_id AND d.tenant = o.tenant AND d.enabled
				WHERE o.command_id = $1 AND (NOT o.open AND o.state <> 'succeeded' OR o.open AND o.expires_at <= $2)
				ORDER BY o.device_id`, string(id), at(now))
		})
		return unseen, err
	})
	if err != nil {
		return nil, fmt.Errorf("list unsuccessful operations: %w", err)
	}
	return ids, nil
}
