package testkit

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// The environment that tests look at.
const (
	// EnvPostgresURL names a PostgreSQL to use instead of starting one: a URL whose user may create databases.
	EnvPostgresURL = "METERLINE_TEST_POSTGRES_URL"
	// EnvRedisAddr names a Redis to use instead of starting one, as host:port.
	EnvRedisAddr = "METERLINE_TEST_REDIS_ADDR"
	// EnvRequire, set to 1, makes a test fail where a server is missing, instead of skipping it.
	EnvRequire = "METERLINE_TEST_REQUIRE_SERVERS"
)

// missing is the error of a server that is not installed.
type missing struct {
	server  string
	install string // Debian's packages; "": only .ci/need-servers knows how
}

func (m *missing) Error() string {
	if m.install == "" {
		return "needs " + m.server + ": .ci/need-servers installs it"
	}
	return "needs " + m.server + ": apt-get install " + m.install
}

// need ends the test when err is not nil: skipped when a server is not installed and nobody insists, failed otherwise.
func need(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	var m *missing
	if errors.As(err, &m) && os.Getenv(EnvRequire) != "1" {
		t.Skipf("SKIP: %v", m)
	}
	t.Fatal(err)
}

// Program gives the path of a program that a test runs; a missing one ends the test like a missing server.
func Program(t testing.TB, name, install string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		err = &missing{server: name, install: install}
	}
	need(t, err)
	return path
}
