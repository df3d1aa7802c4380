package launch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

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

// CheckRedisURL says what is wrong with the value of a Redis flag, if anything.
func CheckRedisURL(flag, address string) error {
	if _, err := redis.ParseURL(address); err != nil {
		return fmt.Errorf("--%s: must be redis://USER:PASSWORD@HOST:PORT/NUMBER, or rediss:// for TLS", flag)
	}
	return nil
}

// CheckDatabaseURL says what is wrong with the value of --database-url, if anything. What the URL holds is not repeated: it
// may hold a password.
func CheckDatabaseURL(databaseURL string) error {
	if path, ok := strings.CutPrefix(databaseURL, "sqlite:"); ok && path != "" {
		return nil
	}
	u, err := url.Parse(databaseURL)
	if err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") || u.Host == "" && !u.Query().Has("host") {
		return errors.New("--database-url: must be postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:PATH")
	}
	return nil
}

// Redis connects to the server at address, such as redis://user:password@host:6379/0 or rediss:// for TLS.
func Redis(ctx context.Context, address string) (redis.UniversalClient, error) {
	opt, err := redis.ParseURL(address)
	if err != nil {
		return nil, err
	}
	opt.MaxRetries = -1 // whoever calls knows better whether and when
	opt.DialTimeout, opt.ReadTimeout, opt.WriteTimeout = 2*time.Second, 3*time.Second, 3*time.Second
	opt.ContextTimeoutEnabled = true
	client := redis.NewClient(opt)
	ctx, stop := context.WithTimeout(ctx, reachWithin)
	defer stop()
	if err := client.Ping(ctx).Err(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot reach Redis at %s: %w", opt.Addr, err), client.Close())
	}
	return client, nil
}

// Store opens the record, which must be migrated, and reads what the processes share.
func Store(ctx context.Context, databaseURL string) (*store.DB, store.Settings, error) {
	ctx, stop := context.WithTimeout(ctx, reachWithin)
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
