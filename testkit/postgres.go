package testkit

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	_ "github.com/lib/pq" // the driver named postgres
)

// PostgresServer is a PostgreSQL that was started here: settings of a fresh cluster, fsync included, and a password
// that only its URL knows.
type PostgresServer struct {
	Process
	URL string // of the database postgres, as superuser
}

// StartPostgres makes a cluster in a temporary directory and starts it. It takes about two seconds.
// Tests call [Postgres] or [PostgresPrivate] instead.
func StartPostgres() (*PostgresServer, error) {
	bin, err := postgresBin()
	if err != nil {
		return nil, err
	}
	as, err := ordinaryUser()
	if err != nil {
		return nil, err
	}
	h, err := newHome("postgres", as)
	if err != nil {
		return nil, err
	}
	password := rand.Text()
	if err := initdb(bin, h.path, password, as); err != nil {
		return nil, errors.Join(err, h.remove())
	}
	port, err := freePort()
	if err != nil {
		return nil, errors.Join(err, h.remove())
	}
	s := newPostgres(bin, h, as, port, password)
	if err := s.proc.start(); err != nil {
		return nil, errors.Join(err, h.remove())
	}
	return s, nil
}

// Close ends the server and removes its files.
func (s *PostgresServer) Close() error { return s.proc.close() }

func newPostgres(bin string, h *home, as *syscall.Credential, port int, password string) *PostgresServer {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, password), Path: "/postgres",
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), RawQuery: "sslmode=disable"}
	return &PostgresServer{URL: u.String(), Process: Process{&process{
		name: "postgres",
		argv: []string{filepath.Join(bin, "postgres"), "-D", filepath.Join(h.path, "data"),
			"-p", strconv.Itoa(port), "-k", h.path,
			"-c", "listen_addresses=127.0.0.1",
			"-c", "max_connections=500", // the packages of the whole project, side by side
			"-c", "timezone=UTC",
			"-c", "dynamic_shared_memory_type=mmap", // in the directory, so that a killed server leaves nothing in /dev/shm
		},
		home:     h,
		as:       as,
		dieWith:  syscall.SIGQUIT, // immediate shutdown: the children go too
		stopWith: syscall.SIGINT,  // fast shutdown: sessions are closed, nothing is waited for
		ready: func(ctx context.Context) error {
			return withDB(u.String(), func(db *sql.DB) error { return db.PingContext(ctx) })
		},
	}}}
}

const superuser = "meterline"

func initdb(bin, home, password string, as *syscall.Credential) error {
	pwfile := filepath.Join(home, "password")
	if err := os.WriteFile(pwfile, []byte(password+"\n"), 0o600); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	if as != nil {
		if err := os.Chown(pwfile, int(as.Uid), int(as.Gid)); err != nil {
			return fmt.Errorf("give password file to the user of postgres: %w", err)
		}
	}
	cmd := exec.Command(filepath.Join(bin, "initdb"), "-D", filepath.Join(home, "data"), "-U", superuser,
		"--pwfile", pwfile, "--auth-local=trust", // the socket is in a directory that is closed to others
		"--auth-host=password", // on loopback: scram would cost each new connection milliseconds, tens under -race
		"--encoding=UTF8", "--locale=C", "--no-sync")
	cmd.Dir = home
	cmd.SysProcAttr = attributes(as, syscall.SIGKILL)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run initdb: %w\n%s", err, out)
	}
	return nil
}

// postgresBin is the directory of initdb and postgres: of the newest version where Debian keeps them, else on PATH.
func postgresBin() (string, error) {
	dirs, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("look for postgres: %w", err)
	}
	version := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		return n
	}
	slices.SortFunc(dirs, func(a, b string) int { return version(b) - version(a) })
	for _, dir := range append(dirs, filepath.SplitList(os.Getenv("PATH"))...) {
		if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
			return dir, nil
		}
	}
	return "", &missing{server: "PostgreSQL", install: "postgresql"}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// ordinaryUser is whom a server runs as: nil for the user of this process, unless that is root, which PostgreSQL
// refuses to run as.
func ordinaryUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
		gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, fmt.Errorf("look up user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("run postgres: root needs a user postgres or nobody to run it as")
}

// withDB opens one connection for f. Nothing of it is left afterwards.
func withDB(databaseURL string, f func(*sql.DB) error) error {
	db, err := sql.Open("postgres", databaseURL)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	db.SetMaxOpenConns(1)
	return errors.Join(f(db), db.Close())
}

// createDatabase makes a database on the server of adminURL and returns its URL and name.
func createDatabase(adminURL, test string) (databaseURL, name string, err error) {
	u, err := url.Parse(adminURL)
	if err != nil {
		return "", "", fmt.Errorf("parse database URL: %w", err)
	}
	name = databaseName(test)
	err = withDB(adminURL, func(db *sql.DB) error {
		_, err := db.Exec(`CREATE DATABASE ` + name)
		return err
	})
	if err != nil {
		return "", "", fmt.Errorf("create database: %w", err)
	}
	u.Path = "/" + name
	return u.String(), name, nil
}

// databaseName is a name of a-z, 0-9 and _ that tells the test and is unique.
func databaseName(test string) string {
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(test))
	return "t_" + safe[:min(len(safe), 40)] + "_" + strings.ToLower(rand.Text()[:10]) // 63 bytes at most
}
