package store

import (
	"context"
	"fmt"

	"meterline/fleet"
)

type userRow struct {
	Name      string
	Tenant    fleet.Tenant
	Role      fleet.Role
	Password  string
	CreatedAt moment `db:"created_at"`
}

const userColumns = `name, tenant, role, password, created_at`

func (r userRow) user() fleet.User {
	return fleet.User{Name: r.Name, Tenant: r.Tenant, Role: r.Role, CreatedAt: r.CreatedAt.Time}
}

// CreateUser implements fleet.UserBook.
func (db *DB) CreateUser(ctx context.Context, by fleet.Actor, u fleet.User, hash []byte) (made fleet.User, err error) {
	err = db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var r userRow
		err = t.get(&r, `
			INSERT INTO users (name, tenant, role, password, created_at)
			VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT DO NOTHING
			RETURNING `+userColumns, u.Name, string(u.Tenant), string(u.Role), string(hash), at(now))
		if missing(err) {
			return fleet.ErrTaken
		}
		if err != nil {
			return fmt.Errorf("insert user: %w", err)
		}
		made = r.user()
		return t.record(now, by, fleet.Change{Action: fleet.UserCreate, Kind: fleet.OnUser, ID: made.Name, After: made})
	})
	return made, err
}

// UserByName implements fleet.UserBook.
func (db *DB) UserByName(ctx context.Context, name string) (u fleet.User, hash []byte, err error) {
	err = db.single(ctx, func(t *tx) error {
		var r userRow
		err := t.get(&r, `
			SELECT `+userColumns+`
			FROM users
			WHERE name = $1`, name)
		if missing(err) {
			return fleet.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("read user: %w", err)
		}
		u, hash = r.user(), []byte(r.Password)
		return nil
	})
	return u, hash, err
}

// Users implements fleet.UserBook.
func (db *DB) Users(ctx context.Context, after string, limit int) (us []fleet.User, err error) {
	err = db.single(ctx, func(t *tx) error {
		var rows []userRow
		err := t.list(&rows, `
			SELECT `+userColumns+`
			FROM users
			WHERE name > $1
			ORDER BY name
			LIMIT $2`, after, limit)
		if err != nil {
			return fmt.Errorf("list users: %w", err)
		}
		us = make([]fleet.User, len(rows))
		for i, r := range rows {
			us[i] = r.user()
		}
		return nil
	})
	return us, err
}

// DeleteUser implements fleet.UserBook.
func (db *DB) DeleteUser(ctx context.Context, by fleet.Actor, name string) error {
	return db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		var r userRow
		err = t.get(&r, `
			DELETE FROM users
			WHERE name = $1 AND tenant = $2
			RETURNING `+userColumns, name, string(by.Tenant))
		if missing(err) {
			return fleet.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("delete user: %w", err)
		}
		if _, err := t.exec(`DELETE FROM sessions WHERE user_name = $1`, name); err != nil {
			return fmt.Errorf("end sessions: %w", err)
		}
		return t.record(now, by, fleet.Change{Action: fleet.UserDelete, Kind: fleet.OnUser, ID: name, Before: r.user()})
	})
}
