package store

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"meterline/command"
	"meterline/testkit"
)

// TestServerStandsStill: who waits for a server that answers nobody is told within seconds, though the driver would wait for
// ever; who comes then is told at once, more of them than there are connections; and it is used again when it answers.
func TestServerStandsStill(t *testing.T) {
	t.Parallel()
	server := testkit.PostgresPrivate(t)
	db := newRecord(t, server.URL)
	ask := func() (time.Duration, error) {
		began := time.Now()
		_, err := db.Now(t.Context())
		return time.Since(began), err
	}
	if _, err := ask(); err != nil {
		t.Fatal(err)
	}
	pulse := testkit.StartPulse(t)
	server.Pause()
	resume := sync.OnceFunc(server.Resume)
	defer resume()
	var all sync.WaitGroup
	for range 3 * defaultConnections {
		all.Go(func() {
			if took, err := ask(); !errors.Is(err, command.ErrUnavailable) || took > pulse.Limit(silence+signWithin+3*time.Second) {
				t.Errorf("got %v after %v", err, took)
			}
		})
	}
	all.Wait()
	if took, err := ask(); !errors.Is(err, command.ErrUnavailable) || took > pulse.Limit(time.Second) {
		t.Errorf("then got %v after %v", err, took)
	}
	resume()
	testkit.Eventually(t, time.Minute, func() bool { _, err := ask(); return err == nil }, "the server is used again")
}

// TestSlowStatementIsWaitedFor: a server that answers others is not silent.
func TestSlowStatementIsWaitedFor(t *testing.T) {
	t.Parallel()
	db := newRecord(t, testkit.Postgres(t))
	err := db.single(context.Background(), func(t *tx) error {
		_, err := t.exec(`SELECT pg_sleep(5)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestASilentConnectionIsClosed: the driver drops a connection after one type of error alone. One that it kept would give the
// late answer to the next statement.
func TestASilentConnectionIsClosed(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // the kernel takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	s := newServer()
	t.Cleanup(s.close)
	c, err := s.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Read(make([]byte, 1))
	if _, dropped := err.(*net.OpError); !dropped || !errors.Is(err, errSilent) { //nolint:errorlint // the driver looks no deeper
		t.Errorf("got %T: %v", err, err)
	}
	if _, err := c.Write([]byte("next")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it can be used again: %v", err)
	}
}

// TestASignOfLifeMayTakeAMoment: it is waited for bit by bit, and more than one of them.
func TestASignOfLifeMayTakeAMoment(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	defer all.Wait()
	defer l.Close()
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(c, make([]byte, 8))
			<-time.After(signWithin / 3)
			_, _ = c.Write([]byte("N"))
			_ = c.Close()
		}
	})
	testkit.Eventually(t, time.Minute, func() bool { return signOfLife("tcp", l.Addr().String()) }, "an answer in time to be one")
}
