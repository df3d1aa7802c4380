package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"meterline/cmd/launch"
	"meterline/fleet"
	"meterline/store"
)

type userCmd struct {
	Create userCreateCmd `cmd:"" help:"Adds a person who signs in with a name and a password."`
	List   userListCmd   `cmd:"" help:"Lists those who sign in with a password."`
	Delete userDeleteCmd `cmd:"" help:"Removes one, and ends all sessions of that name."`
}

type userCreateCmd struct {
	database
	Name         string `required:"" help:"What to sign in with, unique in the installation: 1 to 64 of A-Z a-z 0-9 . _ @ -."`
	Tenant       string `required:"" help:"Whose devices it is about."`
	Role         string `required:"" help:"What that person may do: viewer, operator or admin."`
	PasswordFile string `name:"password-file" placeholder:"FILE" help:"File whose first line is the password; standard input when not given."`
}

// Validate is called by kong.
func (c *userCreateCmd) Validate() error {
	if fleet.Role(c.Role).Scopes() == nil {
		return fmt.Errorf("--role: unknown role %q: must be viewer, operator or admin", c.Role)
	}
	if _, err := fleet.ParseTenant(c.Tenant); err != nil {
		return fmt.Errorf("--tenant: %w", err)
	}
	return c.database.Validate()
}

// Run adds the user.
func (c *userCreateCmd) Run(p *program) error {
	password, err := c.password(p.stdin)
	if err != nil {
		return err
	}
	return withUsers(p, c.database, func(s *fleet.Service) error {
		u, err := s.CreateUser(p.ctx, commandLine(fleet.Tenant(c.Tenant)), c.Name, fleet.Role(c.Role), password)
		if errors.Is(err, fleet.ErrTaken) {
			return fmt.Errorf("there is a user %s already", c.Name)
		}
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.stdout, "%s may sign in as %s of %s\n", u.Name, u.Role, u.Tenant)
		return err
	})
}

// password is the first line of the file, or of standard input.
func (c *userCreateCmd) password(stdin io.Reader) (string, error) {
	if c.PasswordFile != "" {
		f, err := os.Open(c.PasswordFile)
		if err != nil {
			return "", fmt.Errorf("--password-file: %w", err)
		}
		defer f.Close() //nolint:errcheck // only read from
		stdin = f
	}
	line, err := bufio.NewReader(io.LimitReader(stdin, 4096)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}

type userListCmd struct {
	database
}

// Run prints all users.
func (c *userListCmd) Run(p *program) error {
	return withUsers(p, c.database, func(s *fleet.Service) error {
		w := tabwriter.NewWriter(p.stdout, 0, 8, 2, ' ', 0)
		fmt.Fprintln(w, "NAME\tTENANT\tROLE\tSINCE")
		const page = 1000
		for after := ""; ; {
			us, err := s.Users(p.ctx, after, page)
			if err != nil {
				return err
			}
			for _, u := range us {
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", u.Name, u.Tenant, u.Role, u.CreatedAt.Format(time.RFC3339))
				after = u.Name
			}
			if len(us) < page {
				return w.Flush()
			}
		}
	})
}

type userDeleteCmd struct {
	database
	Name string `required:"" help:"Who it is."`
}

// Run removes the user.
func (c *userDeleteCmd) Run(p *program) error {
	return withUsers(p, c.database, func(s *fleet.Service) error {
		u, err := s.User(p.ctx, c.Name)
		if err == nil {
			err = s.DeleteUser(p.ctx, commandLine(u.Tenant), u.Name)
		}
		if errors.Is(err, fleet.ErrNotFound) {
			return fmt.Errorf("there is no user %s", c.Name)
		}
		return err
	})
}

// withUsers opens the record for f.
func withUsers(p *program, d database, f func(*fleet.Service) error) error {
	db, _, err := launch.Store(p.ctx, d.DatabaseURL)
	if err != nil {
		return err
	}
	return errors.Join(f(usersOf(db)), db.Close())
}

// passwordCost is fleet.Options' own default; tests, which sign in often, set less.
var passwordCost int

func usersOf(db *store.DB) *fleet.Service {
	return fleet.NewService(fleet.Options{Users: db, Sessions: db, PasswordCost: passwordCost})
}
