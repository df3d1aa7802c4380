package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"meterline/fleet"
)

type tokenRow struct {
	ID        string
	Tenant    string
	Name      string
	Scopes    string
	CreatedAt moment `db:"created_at"`
	ExpiresAt moment `db:"expires_at"`
}

const tokenColumns = `id, tenant, name, scopes, created_at, expires_at`

func (r tokenRow) token() (fleet.Token, error) {
	t := fleet.Token{ID: r.ID, Tenant: fleet.Tenant(r.Tenant), Name: r.Name, Scopes: []fleet.Scope{},
		CreatedAt: r.CreatedAt.Time, ExpiresAt: r.ExpiresAt.pointer()}
	if err := json.Unmarshal([]byte(r.Scopes), &t.Scopes); err != nil {
		return t, fmt.Errorf("decode scopes of token %s: %w", r.ID, err)
	}
	return t, nil
}

// CreateToken keeps a token by the hash of its secret. It gets an id unless it has one, and its time by the database's
// clock; ErrTaken when the id or the hash is there already.
func (db *DB) CreateToken(ctx context.Context, by fleet.Actor, tok fleet.Token, hash []byte) (made fleet.Token, err error) {
	if tok.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return made, fmt.Errorf("make token id: %w", err)
		}
		tok.ID = id.String()
	}
	scopes, err := json.Marshal(tok.Scopes)
	if err != nil {
		return made, fmt.Errorf("encode scopes: %w", err)
	}
	var expires time.Time
	if tok.ExpiresAt != nil {
		expires = *tok.ExpiresAt
	}
	err = db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var r tokenRow
		err = t.get(&r, `
			INSERT INTO tokens (id, tenant, name, scopes, hash, created_at, expires_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7)
			ON CONFLICT DO NOTHING
			RETURNING `+tokenColumns,
			tok.ID, string(tok.Tenant), tok.Name, string(scopes), hash, at(now), at(expires))
		if missing(err) {
			return fleet.ErrTaken
		}
		if err != nil {
			return fmt.Errorf("insert token: %w", err)
		}
		if made, err = r.token(); err != nil {
			return err
		}
		return t.record(now, by, fleet.Change{Action: fleet.TokenCreate, Kind: fleet.OnToken, ID: made.ID, After: made})
	})
	return made, err
}

// TokenByHash finds a token by the hash of its secret, unless it is revoked or expired by the database's clock.
func (db *DB) TokenByHash(ctx context.Context, hash []byte) (tok fleet.Token, err error) {
	err = db.single(ctx, func(t *tx) error {
		var r tokenRow
		err := t.get(&r, `
			SELECT `+tokenColumns+`
			FROM tokens
			WHERE hash = $1 AND (expires_at IS NULL OR expires_at > `+t.clock(0)+`)`, hash)
		if missing(err) {
			return fleet.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("read token: %w", err)
		}
		tok, err = r.token()
		return err
	})
	return tok, err
}

// TokenBySecret is TokenByHash for those who hold the secret itself.
func (db *DB) TokenBySecret(ctx context.Context, secret string) (fleet.Token, error) {
	return db.TokenByHash(ctx, fleet.TokenHash(secret))
}

// Tokens lists the tenant's tokens in order of their ids, expired ones included, at most limit after the one given.
func (db *DB) Tokens(ctx context.Context, tenant fleet.Tenant, after string, limit int) (toks []fleet.Token, err error) {
	err = db.single(ctx, func(t *tx) error {
		var rows []tokenRow
		err := t.list(&rows, `
			SELECT `+tokenColumns+`
			FROM tokens
			WHERE tenant = $1 AND id > $2
			ORDER BY id
			LIMIT $3`, string(tenant), after, limit)
		if err != nil {
			return fmt.Errorf("list tokens: %w", err)
		}
		toks = make([]fleet.Token, len(rows))
		for i, r := range rows {
			if toks[i], err = r.token(); err != nil {
				return err
			}
		}
		return nil
	})
	return toks, err
}

// DeleteToken revokes a token: nobody is let in by it from now on, and gateways close what came in by it.
func (db *DB) DeleteToken(ctx context.Context, by fleet.Actor, id string) error {
	return db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var r tokenRow
		err = t.get(&r, `
			DELETE FROM tokens
			WHERE tenant = $1 AND id = $2
			RETURNING `+tokenColumns, string(by.Tenant), id)
		if missing(err) {
			return fleet.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("delete token: %w", err)
		}
		gone, err := r.token()
		if err != nil {
			return err
		}
		if err := t.record(now, by, fleet.Change{Action: fleet.TokenDelete, Kind: fleet.OnToken, ID: id, Before: gone}); err != nil {
			return err
		}
		return t.revokeToken(now, id)
	})
}
