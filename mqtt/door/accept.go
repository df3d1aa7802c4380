package door

import (
	"errors"
	"log/slog"
	"net"
	"syscall"
	"time"
)

const (
	acceptDelayMin = 5 * time.Millisecond
	acceptDelayMax = time.Second
)

// accept waits for a connection that has a place. It fails only when the listener is closed: it backs off while the
// process has no file descriptors left (EMFILE) or the like, and then closes somebody who has not been admitted.
func (l *Listener) accept() (*socket, error) {
	for delay := time.Duration(0); ; {
		c, err := l.bound.Accept()
		if err == nil {
			if s := l.door.let(c); s != nil {
				return s, nil
			}
			delay = 0
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.door.metrics.acceptErrors.Inc()
		l.door.o.Say(slog.LevelWarn, "", "cannot accept connections", "listener", l.spec.Name, "error", err)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.door.gate.relieve()
		}
		delay = min(max(acceptDelayMin, 2*delay), acceptDelayMax)
		select {
		case <-time.After(delay):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// let gives a connection its place, nil when there is none.
func (d *Door) let(c net.Conn) *socket {
	place := d.gate.enter(c, Neighbourhood(ipOf(c.RemoteAddr())))
	if place == nil {
		return nil
	}
	slow := func(cause string) { d.metrics.slowClosed.WithLabelValues(cause).Inc() }
	s := newSocket(c, d.o.Backlog, &d.running, slow)
	s.begin(d.gate, place)
	return s
}
