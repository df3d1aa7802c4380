package broker

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
func (l *listener) accept() (*conn, error) {
	for delay := time.Duration(0); ; {
		socket, err := l.socket.Accept()
		if err == nil {
			if c := l.let(socket); c != nil {
				return c, nil
			}
			delay = 0
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, err
		}
		l.metrics.acceptErrors.Inc()
		l.said.say(slog.LevelWarn, "", "cannot accept connections", "listener", l.spec.Name, "error", err)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			l.gate.relieve()
		}
		delay = min(max(acceptDelayMin, 2*delay), acceptDelayMax)
		select {
		case <-time.After(delay):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

// let gives a socket its place, nil when there is none.
func (l *listener) let(socket net.Conn) *conn {
	place := l.gate.enter(socket, neighbourhood(ipOf(socket.RemoteAddr())))
	if place == nil {
		return nil
	}
	slow := func(cause string) { l.metrics.slowClosed.WithLabelValues(cause).Inc() }
	c := newConn(socket, l.backlog, &l.conns.running, slow)
	c.begin(l.gate, place)
	return c
}
