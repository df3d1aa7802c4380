package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"meterline/testkit"
)

// knock sends an MQTT 3.1.1 CONNECT, and reads the code of the CONNACK.
func knock(t *testing.T, address, clientID, user, password string) (net.Conn, byte) {
	t.Helper()
	var body bytes.Buffer
	text := func(s string) {
		_ = binary.Write(&body, binary.BigEndian, uint16(len(s)))
		body.WriteString(s)
	}
	text("MQTT")
	body.Write([]byte{4, 0xc2, 0, 60}) // user name, password, clean session
	text(clientID)
	text(user)
	text(password)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if _, err := c.Write(append([]byte{0x10, byte(body.Len())}, body.Bytes()...)); err != nil {
		t.Fatal(err)
	}
	var connack [4]byte
	_ = c.SetReadDeadline(time.Now().Add(waitMost))
	if _, err := io.ReadFull(c, connack[:]); err != nil {
		t.Fatalf("%s: no CONNACK: %v", clientID, err)
	}
	return c, connack[3]
}

// knockAgain is knock by somebody who tries again when told to, as where PostgreSQL did not answer in time.
func knockAgain(t *testing.T, address, clientID, user, password string) (c net.Conn, code byte) {
	t.Helper()
	testkit.Eventually(t, waitMost, func() bool {
		c, code = knock(t, address, clientID, user, password)
		return code != 3
	}, clientID+" to be answered")
	return c, code
}

// enter is knockAgain for whom has to be let in.
func enter(t *testing.T, address, clientID, user, password string) net.Conn {
	t.Helper()
	c, code := knockAgain(t, address, clientID, user, password)
	if code != 0 {
		t.Fatalf("%s is answered %d", clientID, code)
	}
	return c
}

// closedWithin wants all to be closed by the other side.
func closedWithin(t *testing.T, within time.Duration, what string, all ...net.Conn) {
	t.Helper()
	pulse, began := testkit.StartPulse(t), time.Now()
	var reading sync.WaitGroup
	for _, c := range all {
		reading.Go(func() {
			_ = c.SetReadDeadline(began.Add(waitMost))
			if _, err := c.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: still open after %v", what, waitMost)
			}
		})
	}
	reading.Wait()
	if took := time.Since(began); took > pulse.Limit(within) {
		t.Errorf("%s: closed after %v", what, took)
	}
}

// pings wants the connection to be open.
func pings(t *testing.T, c net.Conn) {
	t.Helper()
	var pong [2]byte
	_ = c.SetDeadline(time.Now().Add(waitMost))
	if _, err := c.Write([]byte{0xc0, 0}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, pong[:]); err != nil || pong[0] != 0xd0 {
		t.Fatalf("%x: %v", pong, err)
	}
}

// What is taken back through the API closes the sessions on both gateways within 5 s, and lets nobody in any more.
func TestRevocationOnTwoGateways(t *testing.T) {
	server := testkit.PostgresPrivate(t)
	e := newEstateOn(t, "store", server.URL, testWriter{t})
	second := "127.0.0.1:" + freePort(t)
	e.startGatewayAt("g2", second)

	var token struct{ ID, Token string }
	e.must("POST", "/v1/tokens", `{"name":"mqtt","scopes":["mqtt"]}`).into(t, &token)
	secrets := map[string]string{}
	for _, id := range []string{"disabled", "rotated", "deleted", "stays"} {
		secrets[id] = e.direct(id)
	}
	both := func(user, id, password string) []net.Conn {
		return []net.Conn{enter(t, e.mqtt, id, user, password), enter(t, second, id+":side", user, password)}
	}
	staying := both("stays", "stays", secrets["stays"])
	var rotated struct {
		Credentials struct{ Password string }
	}
	for _, c := range []struct {
		what, user, password string
		change               func()
	}{
		{"disabled", "disabled", secrets["disabled"], func() { e.must("PATCH", "/v1/devices/disabled", `{"enabled":false}`) }},
		{"rotated", "rotated", secrets["rotated"], func() { e.must("POST", "/v1/devices/rotated/credentials", "").into(t, &rotated) }},
		{"deleted", "deleted", secrets["deleted"], func() { e.must("DELETE", "/v1/devices/deleted", "") }},
		{"token", "service", token.Token, func() { e.must("DELETE", "/v1/tokens/"+token.ID, "") }},
	} {
		open := both(c.user, c.what, c.password)
		began := time.Now()
		c.change()
		closedWithin(t, 5*time.Second, c.what, open...)
		t.Logf("%s: closed on both gateways after %v", c.what, time.Since(began))
		for _, address := range []string{e.mqtt, second} {
			if _, code := knockAgain(t, address, c.what, c.user, c.password); code != 5 {
				t.Errorf("%s comes back and is answered %d", c.what, code)
			}
		}
	}
	enter(t, second, "rotated", "rotated", rotated.Credentials.Password)
	for _, c := range staying {
		pings(t, c)
	}

	// While PostgreSQL is away whoever is known comes in at once, and others are told to try again.
	pulse := testkit.StartPulse(t)
	server.Kill()
	began := time.Now()
	if _, code := knock(t, e.mqtt, "stays:again", "stays", secrets["stays"]); code != 0 {
		t.Errorf("a device that is known is answered %d", code)
	}
	if took := time.Since(began); took > pulse.Limit(time.Second) {
		t.Errorf("a device that is known waited %v", took)
	}
	for _, id := range []string{"stays", "nobody"} {
		if _, code := knock(t, e.mqtt, id, id, "wrong"); code != 3 {
			t.Errorf("%s with a wrong secret is answered %d", id, code)
		}
	}
	server.Start()
	testkit.Eventually(t, waitMost, func() bool {
		_, code := knock(t, e.mqtt, "rotated:x", "rotated", rotated.Credentials.Password)
		return code == 0
	}, "PostgreSQL is back for a device that this gateway does not know")
}

// In one process it is the same.
func TestRevocationInOneProcess(t *testing.T) {
	t.Parallel()
	h := newHouse(t, nil)
	var token struct{ ID, Token string }
	h.must("POST", "/v1/tokens", `{"name":"mqtt","scopes":["mqtt"]}`).into(t, &token)
	device := enter(t, h.mqtt, "d1", "d1", h.direct("d1"))
	stays := enter(t, h.mqtt, "d2", "d2", h.direct("d2"))
	service := enter(t, h.mqtt, "s", "service", token.Token)
	h.must("PATCH", "/v1/devices/d1", `{"enabled":false}`)
	h.must("DELETE", "/v1/tokens/"+token.ID, "")
	closedWithin(t, 5*time.Second, "one process", device, service)
	pings(t, stays)
}
