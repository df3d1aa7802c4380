package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"time"

	"meterline/store"
)

// reachWithin is how long a program waits for a server when it starts.
const reachWithin = 5 * time.Second

// CheckAddress says what is wrong with the value of a flag that says where to listen, if anything.
func CheckAddress(flag, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(context.Background(), "tcp", port) // names are in a file: nothing to wait for
	}
	if err != nil {
		return fmt.Errorf("--%s: must be HOST:PORT, such as 127.0.0.1:1883 or :1883", flag)
	}
	return nil
}

// programID is what the id of a gateway or a backend may be: it is a part of client ids.
var programID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// CheckID says what is wrong with the value of --id, if anything.
func CheckID(id string) error {
	if !programID.MatchString(id) {
		return errors.New("--id: must be 1 to 64 of A-Z a-z 0-9 . _ -")
	}
	return nil
}

// CheckDatabaseURL says what is wrong with the value of --database-url, if anything. What the URL holds is not repeated: it
// may hold a password.
func CheckDatabaseURL(databaseURL string) error {
	if path, ok := store.SQLitePath(databaseURL); ok && path != "" {
		return nil
	}
	u, err := url.Parse(databaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Host == "" && !u.Query().Has("host") {
		return errors.New("--database-url: must be postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:PATH")
	}
	return nil
}

// Store opens the record, which must be migrated, and reads what the processes share.
func Store(ctx context.Context, databaseURL string) (*store.DB, store.Settings, error) {
	ctx, stop := reaching(ctx, databaseURL)
	defer stop()
	db, err := store.Open(ctx, store.Options{URL: databaseURL})
	if err != nil {
		return nil, store.Settings{}, err
	}
	settings, err := db.Settings(ctx)
	if err != nil {
		return nil, store.Settings{}, errors.Join(err, db.Close())
	}
	return db, settings, nil
}

// reaching bounds how long a server is waited for. A file is there or it is not, and opening it is work: what the last process
// left in its log is read and synced first, which may take its time on a slow or busy disk.
func reaching(ctx context.Context, databaseURL string) (context.Context, context.CancelFunc) {
	if _, file := store.SQLitePath(databaseURL); file {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, reachWithin)
}
