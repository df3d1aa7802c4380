package simulator

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// serveBytes answers every connection with the same bytes and keeps it open until the test ends.
func serveBytes(t *testing.T, answer []byte) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_, _ = conn.Write(answer)
		_, _ = io.Copy(io.Discard, conn) // until the client hangs up
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return l.Addr().String()
}

func TestDialRefusals(t *testing.T) {
	connack := []byte{0x20, 2, 0, 0}
	cases := []struct {
		name   string
		answer []byte
		want   string
	}{
		{"bad password", []byte{0x20, 2, 0, 4}, "bad user name or password"},
		{"not authorized", []byte{0x20, 2, 0, 5}, "not authorized"},
		{"unknown code", []byte{0x20, 2, 0, 99}, "return code 99"},
		{"no CONNACK", []byte{0xd0, 0}, "got Pingresp"},
		{"no MQTT", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), "CONNACK"},
		{"empty CONNACK", []byte{0x20, 0}, "CONNACK"},
		{"subscription refused", append(connack, 0x90, 3, 0, 1, 0x80), "subscribe to f: refused"},
		{"packet too large", []byte{0x30, 0xff, 0xff, 0xff, 0x7f}, "too large"},
	}
	for _, c := range cases {
		_, err := dial(context.Background(), serveBytes(t, c.answer), Credentials{ClientID: "x"}, "f", time.Minute)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	began := time.Now()
	_, err := dial(ctx, serveBytes(t, nil), Credentials{ClientID: "x"}, "f", time.Minute)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > patience {
		t.Errorf("%v after %s", err, time.Since(began))
	}
}

// A broker may deliver a command before it answers SUBSCRIBE.
func TestCommandBeforeSUBACK(t *testing.T) {
	answer := []byte{0x20, 2, 0, 0, 0x32, 6, 0, 1, 'f', 0, 9, '!', 0x90, 3, 0, 1, 1}
	s, err := dial(context.Background(), serveBytes(t, answer), Credentials{ClientID: "x"}, "f", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if len(s.early) != 1 || s.early[0].kind != packets.Publish || s.early[0].id != 9 || string(s.early[0].payload) != "!" {
		t.Errorf("kept %+v", s.early)
	}
}

func TestSilenceBreaksTheConnection(t *testing.T) {
	s, err := dial(context.Background(), serveBytes(t, []byte{0x20, 2, 0, 0, 0x90, 3, 0, 1, 1}), Credentials{ClientID: "x"}, "f", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	s.silence = 20 * time.Millisecond // not before: the peer's own answers may take longer on a busy machine
	var timeout net.Error
	if _, err := s.read(context.Background()); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("read from a silent peer: %v", err)
	}
}

func TestPacketIDsSkipThoseInUse(t *testing.T) {
	s := &session{inflight: map[uint16]flying{1: {}, 2: {}, 65535: {}}, lastID: 65534}
	if id := s.nextID(); id != 3 {
		t.Errorf("id %d, want 3: 0 is none, 65535, 1 and 2 are in use", id)
	}
}

func TestCheckBroker(t *testing.T) {
	for address, good := range map[string]bool{"127.0.0.1:1883": true, "mqtt://h:1": true, "mqtts://h:1": true, "[::1]:1883": true,
		"h": false, "http://h:1": false, "": false} {
		if err := CheckBroker(address); (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
	}
}
