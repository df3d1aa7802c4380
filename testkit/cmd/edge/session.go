//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"time"

	"meterline/testkit/packet"
)

// stepTimeout is how long each step of coming in may take: connecting, CONNACK, SUBACK.
const stepTimeout = 10 * time.Second

// errRefused is a CONNACK or SUBACK that says no.
var errRefused = errors.New("refused")

// session is one MQTT 3.1.1 connection.
type session struct {
	conn net.Conn
	r    *bufio.Reader
}

// dial connects from source ("": any address) and signs in. receive, when it is not 0, is what SO_RCVBUF is set to before
// the connection is made; the kernel raises it to the smallest that it has.
func dial(ctx context.Context, addr, source string, receive int, who packet.Account) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	d := net.Dialer{}
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	if receive != 0 {
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			return errors.Join(raw.Control(func(fd uintptr) {
				err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, receive)
			}), err)
		}
	}
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, r: bufio.NewReaderSize(conn, 512)}
	if err := s.ask(packet.AppendConnect(nil, who, keepAlive), packet.Connack); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("connect: %w", err)
	}
	return s, nil
}

// subscribe asks for QoS 1.
func (s *session) subscribe(filter string) error {
	if err := s.ask(packet.AppendSubscribe(nil, 1, filter), packet.Suback); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// ask sends a packet and waits for its answer, which is the next to come.
func (s *session) ask(question []byte, answer byte) error {
	_ = s.conn.SetDeadline(time.Now().Add(stepTimeout))
	if _, err := s.conn.Write(question); err != nil {
		return err
	}
	p, err := readPacket(s.r)
	switch {
	case err != nil:
		return err
	case p.kind != answer:
		return fmt.Errorf("%w: type %d instead of %d", errPacket, p.kind>>4, answer>>4)
	case answer == packet.Connack && p.code != 0 || p.code >= 0x80:
		return fmt.Errorf("%w with code %d", errRefused, p.code)
	}
	return s.conn.SetDeadline(time.Time{})
}

// reason puts the errors of coming in into few classes, for counting.
func reason(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens"
	case errors.Is(err, errRefused):
		return err.Error()
	case strings.Contains(err.Error(), "dial"):
		return "dial: " + err.Error()[strings.LastIndexByte(err.Error(), ':')+2:]
	}
	return "closed"
}
