package store

import (
	"context"
	"encoding/json"
	"fmt"

	"meterline/fleet"
)

// CreateSession implements fleet.SessionBook. A user or a token that has gone since it was looked at opens none: ErrNotFound.
func (db *DB) CreateSession(ctx context.Context, by fleet.Actor, s fleet.Session, hash []byte) error {
	return db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		if _, err := t.exec(`DELETE FROM sessions WHERE expires_at <= $1`, at(now)); err != nil {
			return fmt.Errorf("forget sessions: %w", err)
		}
		of, key := `FROM tokens WHERE id = $4`, s.TokenID
		if s.User != "" {
			of, key = `FROM users WHERE name = $4`, s.User
		}
		n, err := t.exec(`
			INSERT INTO sessions (id, hash, tenant, user_name, token_id, created_at, expires_at)
			SELECT $1, $2, $3, `+sessionKeys(s)+`, $5, $6
			`+of+t.lock("FOR KEY SHARE"), s.ID, hash, string(by.Tenant), key, at(now), at(s.ExpiresAt))
		if err != nil {
			return fmt.Errorf("insert session: %w", err)
		}
		if n == 0 {
			return fleet.ErrNotFound
		}
		return t.record(now, by, fleet.Change{Action: fleet.SessionCreate, Kind: fleet.OnSession, ID: s.ID, After: s})
	})
}

// sessionKeys are the user's name and the token's id of a session: one of the two.
func sessionKeys(s fleet.Session) string {
	if s.User != "" {
		return `name, NULL`
	}
	return `NULL, id`
}

// SessionToken implements fleet.SessionBook.
func (db *DB) SessionToken(ctx context.Context, hash []byte) (tok fleet.Token, err error) {
	err = db.single(ctx, func(t *tx) error {
		var r struct {
			Expires   moment      `db:"expires_at"`
			User      *string     `db:"user_name"`
			Tenant    *string     `db:"user_tenant"`
			Role      *fleet.Role `db:"role"`
			Since     moment      `db:"user_since"`
			TokenID   *string     `db:"token_id"`
			TokenName *string     `db:"token_name"`
			TokenOf   *string     `db:"token_tenant"`
			Scopes    *string     `db:"scopes"`
			Made      moment      `db:"token_made"`
		}
		err := t.get(&r, `
			SELECT s.expires_at, u.name AS user_name, u.tenant AS user_tenant, u.role, u.created_at AS user_since,
				k.id AS token_id, k.name AS token_name, k.tenant AS token_tenant, k.scopes, k.created_at AS token_made
			FROM sessions s
			LEFT JOIN users u ON u.name = s.user_name
			LEFT JOIN tokens k ON k.id = s.token_id AND (k.expires_at IS NULL OR k.expires_at > `+t.clock(0)+`)
			WHERE s.hash = $1 AND s.expires_at > `+t.clock(0), hash)
		switch {
		case missing(err), err == nil && r.User == nil && r.TokenID == nil:
			return fleet.ErrNotFound
		case err != nil:
			return fmt.Errorf("read session: %w", err)
		case r.User != nil:
			tok = fleet.User{Name: *r.User, Tenant: fleet.Tenant(*r.Tenant), Role: *r.Role, CreatedAt: r.Since.Time}.Token()
		default:
			tok = fleet.Token{ID: *r.TokenID, Tenant: fleet.Tenant(*r.TokenOf), Name: *r.TokenName, CreatedAt: r.Made.Time}
			if err := json.Unmarshal([]byte(*r.Scopes), &tok.Scopes); err != nil {
				return fmt.Errorf("decode scopes of token %s: %w", tok.ID, err)
			}
		}
		tok.ExpiresAt = r.Expires.pointer()
		return nil
	})
	return tok, err
}

// DeleteSession implements fleet.SessionBook.
func (db *DB) DeleteSession(ctx context.Context, by fleet.Actor, hash []byte) error {
	return db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var id string
		err = t.get(&id, `DELETE FROM sessions WHERE hash = $1 RETURNING id`, hash)
		if missing(err) {
			return fleet.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("delete session: %w", err)
		}
		return t.record(now, by, fleet.Change{Action: fleet.SessionDelete, Kind: fleet.OnSession, ID: id})
	})
}
