package main

import (
	"errors"
	"fmt"

	"meterline/cmd/launch"
	"meterline/fleet"
	"meterline/store"
)

// database is the flag of the commands that only need the record.
type database struct {
	DatabaseURL string `name:"database-url" default:"postgres://127.0.0.1:5432/meterline?sslmode=disable" placeholder:"URL" help:"PostgreSQL: postgres://… (SQLite: sqlite:PATH)."`
}

// Validate is called by kong.
func (d database) Validate() error {
	return launch.CheckDatabaseURL(d.DatabaseURL)
}

type migrateCmd struct {
	database
}

// Run brings the schema up to date. Two at once do no harm.
func (c *migrateCmd) Run(p *program) error {
	if err := store.Migrate(p.ctx, store.Options{URL: c.DatabaseURL}); err != nil {
		return err
	}
	_, err := fmt.Fprintln(p.stdout, "the schema is up to date")
	return err
}

type tokenCmd struct {
	Create tokenCreateCmd `cmd:"" help:"Makes an API token and prints it, alone, on standard output. It is shown only now."`
}

type tokenCreateCmd struct {
	database
	Tenant string   `required:"" help:"Whose token it is."`
	Scopes []string `required:"" help:"What it may do, separated by commas: admin, or some of fleet:read, fleet:write, commands:read, commands:write, commands:control, readings:read, deadletters:write, audit:read, tokens:admin, mqtt, mqtt:admin."`
	Name   string   `default:"command line" help:"What to call it."`
}

// Validate is called by kong.
func (c *tokenCreateCmd) Validate() error {
	for _, s := range c.Scopes {
		if !knownScope(fleet.Scope(s)) {
			return fmt.Errorf("--scopes: unknown scope %q", s)
		}
	}
	if _, err := fleet.ParseTenant(c.Tenant); err != nil {
		return fmt.Errorf("--tenant: %w", err)
	}
	return c.database.Validate()
}

func knownScope(s fleet.Scope) bool {
	for _, known := range fleet.Scopes {
		if s == known {
			return true
		}
	}
	return false
}

// Run makes the token.
func (c *tokenCreateCmd) Run(p *program) error {
	db, settings, err := launch.Store(p.ctx, c.DatabaseURL)
	if err != nil {
		return err
	}
	scopes := make([]fleet.Scope, len(c.Scopes))
	for i, s := range c.Scopes {
		scopes[i] = fleet.Scope(s)
	}
	secret, err := grant(p.ctx, db, settings, fleet.Tenant(c.Tenant), c.Name, scopes)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(p.stdout, secret)
	return err
}
