package store

import (
	"context"
	"fmt"
	"time"

	"meterline/fleet"
)

const (
	revocationsKept  = 24 * time.Hour
	revocationsPrune = 10 * time.Minute
	revocationsPage  = 5000
)

// revokeDevice notes that gateways are to look at a device's sessions again. It belongs into the transaction of the change.
func (t *tx) revokeDevice(now time.Time, id fleet.DeviceID) error {
	return t.revoke(now, "device_id", string(id))
}

// revokeToken notes that gateways are to close a token's sessions.
func (t *tx) revokeToken(now time.Time, id string) error { return t.revoke(now, "token_id", id) }

func (t *tx) revoke(now time.Time, column, id string) error {
	_, err := t.exec(`INSERT INTO revocations (`+column+`, revoked_at) VALUES ($1, $2)`, id, at(now))
	if err != nil {
		return fmt.Errorf("note revocation: %w", err)
	}
	return nil
}

// Revocations follows what is taken back from the moment it was made. It is for one goroutine.
type Revocations struct {
	db     *DB
	after  revocationPlace
	pruned time.Time
}

// revocationPlace is where a reader is. In PostgreSQL ids become visible out of order, as transactions commit: tx is the
// oldest transaction that ran when the reader looked, and everything from it on is looked at again. In SQLite, tx is 0 and
// id is the last that was seen.
type revocationPlace struct{ tx, id int64 }

// Revocations begins to follow what is taken back.
func (db *DB) Revocations(ctx context.Context) (*Revocations, error) {
	r := &Revocations{db: db, pruned: time.Now()}
	text := `SELECT COALESCE(max(id), 0) FROM revocations`
	place := &r.after.id
	if db.postgres {
		text, place = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint`, &r.after.tx
	}
	if err := db.single(ctx, func(t *tx) error { return t.get(place, text) }); err != nil {
		return nil, fmt.Errorf("begin to follow revocations: %w", err)
	}
	return r, nil
}

// Next lists what was taken back since it last returned without an error, at least once each. It reads from where it was
// when the record comes back after having been away; what is older than a day is not there any more.
func (r *Revocations) Next(ctx context.Context) ([]fleet.Revocation, error) {
	var found []fleet.Revocation
	var next revocationPlace
	err := r.db.single(ctx, func(t *tx) error {
		found = nil
		after := r.after
		for page := 0; ; page++ {
			rows, err := t.revocations(after)
			if err != nil {
				return err
			}
			if page == 0 {
				next = rows.horizon(r.after)
			}
			found = rows.append(found)
			if len(rows) < revocationsPage {
				return nil
			}
			after = rows.last()
			if !t.postgres {
				next = after
			}
		}
	})
	if err != nil {
		return nil, fmt.Errorf("read revocations: %w", err)
	}
	r.after = next
	r.prune(ctx)
	return found, nil
}

type revocationRow struct {
	Horizon int64   `db:"horizon"`
	TX      int64   `db:"tx"`
	ID      *int64  `db:"id"` // nil: there is none, the row says only how far the reader is
	Device  *string `db:"device_id"`
	Token   *string `db:"token_id"`
	Tenant  *string `db:"tenant"`
	Kind    *string `db:"kind"`
	Enabled *bool   `db:"enabled"`
	MAC     []byte  `db:"secret_mac"`
}

type revocationRows []revocationRow

// revocations reads a page after a place, with what each device may sign in with now.
func (t *tx) revocations(after revocationPlace) (rows revocationRows, err error) {
	if t.postgres {
		err = t.list(&rows, `
			WITH reader AS (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon)
			SELECT reader.horizon, COALESCE(r.tx, 0) AS tx, r.id, r.device_id, r.token_id, d.tenant, d.kind, d.enabled, d.secret_mac
			FROM reader
			LEFT JOIN (
				SELECT tx, id, device_id, token_id
				FROM revocations
				WHERE (tx, id) > ($1, $2)
				ORDER BY tx, id
				LIMIT $3
			) AS r ON TRUE
			LEFT JOIN devices AS d ON d.id = r.device_id AND d.kind <> 'meter' AND d.secret_mac IS NOT NULL
			ORDER BY r.tx, r.id`, after.tx, after.id, revocationsPage)
		return rows, err
	}
	err = t.list(&rows, `
		SELECT 0 AS horizon, 0 AS tx, r.id, r.device_id, r.token_id, d.tenant, d.kind, d.enabled, d.secret_mac
		FROM (
			SELECT id, device_id, token_id
			FROM revocations
			WHERE id > $1
			ORDER BY id
			LIMIT $2
		) AS r
		LEFT JOIN devices AS d ON d.id = r.device_id AND d.kind <> 'meter' AND d.secret_mac IS NOT NULL
		ORDER BY r.id`, after.id, revocationsPage)
	return rows, err
}

// horizon is where to go on when all of the reading that begins with these rows was seen.
func (rows revocationRows) horizon(was revocationPlace) revocationPlace {
	switch {
	case len(rows) == 0:
		return was
	case rows[0].Horizon == 0:
		return rows.last()
	case rows[0].Horizon < was.tx: // another database, restored from a copy: all that there is
		return revocationPlace{}
	}
	return revocationPlace{tx: rows[0].Horizon}
}

func (rows revocationRows) last() revocationPlace {
	last := rows[len(rows)-1]
	return revocationPlace{last.TX, *last.ID}
}

func (rows revocationRows) append(found []fleet.Revocation) []fleet.Revocation {
	for _, r := range rows {
		switch {
		case r.Token != nil:
			found = append(found, fleet.Revocation{Token: *r.Token})
		case r.Device != nil:
			found = append(found, fleet.Revocation{Device: fleet.DeviceID(*r.Device), Now: r.credential()})
		}
	}
	return found
}

func (r revocationRow) credential() *fleet.Credential {
	if r.Tenant == nil {
		return nil
	}
	return &fleet.Credential{DeviceID: fleet.DeviceID(*r.Device), Tenant: fleet.Tenant(*r.Tenant), Kind: fleet.Kind(*r.Kind),
		Enabled: *r.Enabled, MAC: r.MAC}
}

// prune deletes, from time to time, what everybody has seen. What cannot be deleted now is deleted the next time.
func (r *Revocations) prune(ctx context.Context) {
	if time.Since(r.pruned) < revocationsPrune {
		return
	}
	r.pruned = time.Now()
	_ = r.db.write(ctx, bulk, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec(`DELETE FROM revocations WHERE revoked_at < $1`, at(now.Add(-revocationsKept)))
		return err
	})
}
