package main

import (
	"bytes"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"meterline/testkit"
)

const canary = "CaNaRy"

// Whatever happens, no secret and no payload is in the log of a gateway or a backend, nor in what the API answers to those
// who do not have it.
func TestLogsShowNoSecretAndNoPayload(t *testing.T) {
	logged := &testkit.Journal{}
	database := testkit.Postgres(t)
	e := newEstateOn(t, "store", database, logged, "METERLINE_LOG_LEVEL=debug")
	secrets := map[string]string{"canary": canary, "admin token": e.token}
	if u, err := url.Parse(database); err == nil {
		if password, ok := u.User.Password(); ok {
			secrets["database password"] = password
		}
	}
	for _, key := range []string{"pepper", "backend_secret"} {
		var value string
		e.query(&value, `SELECT value FROM settings WHERE key = $1`, key)
		secrets[key] = value
	}
	secrets["device secret"] = e.direct("d1")
	var token struct{ ID, Token string }
	e.must("POST", "/v1/tokens", `{"name":"mqtt","scopes":["mqtt"]}`).into(t, &token)
	secrets["token"] = token.Token

	d := e.play("d1", secrets["device secret"], false)
	v := e.issue(`{"kind":"device.ping","targets":{"device_ids":["d1"]},"params":{}}`)
	d.next(waitMost)
	d.up("result", result(v.ID, "d1", "1234.5", at))
	for _, payload := range []string{
		canary, `{"v":9,"x":"` + canary + `"}`, `{"v":1,"readings":[{"device_id":"d1","item":"` + canary + `","value":"` + canary + `"}]}`,
		`{"v":1,"results":[{"command_id":"` + canary + `"}]}`,
	} {
		for _, channel := range []string{"ack", "result", "readings", "event"} {
			d.up(channel, []byte(payload))
		}
	}
	enter(t, e.mqtt, "s", "service", token.Token)
	for range 20 {
		c, _ := knock(t, e.mqtt, "d1:y", "d1", secrets["device secret"])
		_ = c.Close()
	}
	for range 12 {
		for _, who := range [][3]string{{"d1:x", "d1", canary}, {"s", "service", token.Token + "x"}, {token.Token, token.Token, "x"},
			{secrets["device secret"], secrets["device secret"], "x"}, {"b", "backend", canary}} {
			c, _ := knock(t, e.mqtt, who[0], who[1], who[2])
			_ = c.Close()
		}
	}
	for _, raw := range []string{"\x10\x80" + canary, "\x10\x20\x00\x04MQTT\x04\xc2\x00\x00\x00\x02d1\x00\x09" + canary + canary + canary} {
		c, err := net.Dial("tcp", e.mqtt)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(raw))
		_ = c.Close()
	}

	for _, call := range [][3]string{
		{"POST", "/v1/commands", `{"kind":"meter.relay","targets":{"device_ids":["d1"]},"params":{"position":"` + canary + `"}}`},
		{"POST", "/v1/devices/import", `{"id":"d1","kind":"direct","secret":"` + canary + `","enabled":3}`},
		{"POST", "/v1/devices/import", `{"id":"` + strings.Repeat("x", 70) + `","kind":"direct","secret":"` + canary + `"}`},
		{"POST", "/v1/devices/import", `{"secret":"` + canary},
		{"GET", "/v1/devices/d1", ""},
		{"GET", "/v1/tokens", ""},
	} {
		a := e.call(call[0], call[1], call[2], "Content-Type", map[bool]string{true: "application/x-ndjson", false: "application/json"}[strings.HasSuffix(call[1], "import")])
		for what, secret := range secrets {
			if what != "canary" && strings.Contains(string(a.body), secret) || what == "canary" && strings.Contains(call[1], "import") && strings.Contains(string(a.body), secret) {
				t.Errorf("%s %s answers with the %s: %d %s", call[0], call[1], what, a.status, a.body)
			}
		}
	}
	for _, bearer := range []string{canary, token.Token + canary, ""} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, e.http+"/v1/devices", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+bearer)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var body bytes.Buffer
		_, _ = body.ReadFrom(response.Body)
		_ = response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized || strings.Contains(body.String(), canary) {
			t.Errorf("%d %s", response.StatusCode, body.String())
		}
	}
	e.must("PATCH", "/v1/devices/d1", `{"enabled":false}`)
	e.must("DELETE", "/v1/tokens/"+token.ID, "")
	testkit.Eventually(t, waitMost, func() bool { return strings.Contains(logged.Text(), "banned for wrong secrets") }, "a ban is logged")
	testkit.Eventually(t, waitMost, func() bool { return len(e.letters()) > 0 }, "dead letters are kept")
	testkit.Eventually(t, waitMost, func() bool {
		return strings.Contains(string(e.must("GET", "/v1/events", "").body), "two devices with one identity")
	}, "the hold-off is a security event")

	for _, happened := range []string{"client refused", "held off", "gateway is up", "backend is up"} {
		testkit.Eventually(t, waitMost, func() bool { return strings.Contains(logged.Text(), happened) }, happened+" in the log")
	}
	said := logged.Text()
	for line := range strings.Lines(said) {
		for what, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("the %s is logged: %s", what, line)
			}
		}
	}
}
