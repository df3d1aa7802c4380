package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"meterline/cmd/launch"
	"meterline/testkit"
)

// byHand runs a command of the program, with this on standard input.
func byHand(t *testing.T, stdin string, args ...string) (status int, out string) {
	t.Helper()
	var c commands
	var said bytes.Buffer
	parsed, _, err := launch.Parse(&c, "backend", about, args, &said)
	if err != nil {
		return launch.StatusUsage, err.Error()
	}
	if err := parsed.Run(&program{t.Context(), strings.NewReader(stdin), &said, &said}); err != nil {
		return launch.StatusFailed, err.Error()
	}
	return launch.StatusOK, said.String()
}

// A person is added on the command line, signs in over https with a browser's cookies, and is gone when removed. The certificate
// is the one of the files, also after they have changed.
func TestAPersonSignsIn(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	ca := testkit.NewAuthority(t)
	cert, key := filepath.Join(data, "cert.pem"), filepath.Join(data, "key.pem")
	renew := func() *x509.Certificate {
		c, k := ca.Server(time.Now().Add(time.Hour))
		testkit.WritePair(t, cert, key, c, k)
		return c
	}
	first := renew()
	h := houseOf(t, &standaloneCmd{Data: data, HTTPS: launch.HTTPS{Cert: cert, Key: key}})
	if !strings.HasPrefix(h.http, "https://127.0.0.1:") {
		t.Fatalf("it listens at %s", h.http)
	}
	url := "--database-url=sqlite:" + filepath.Join(data, "meterline.db")
	if status, out := byHand(t, "correct horse\n", "user", "create", url, "--name", "anna", "--tenant", "default", "--role", "viewer"); status != 0 {
		t.Fatal(out)
	}
	file := filepath.Join(data, "password")
	if err := os.WriteFile(file, []byte("battery staple"), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out := byHand(t, "", "user", "create", url, "--name", "bert", "--tenant", "other", "--role", "admin", "--password-file", file); status != 0 {
		t.Fatal(out)
	}
	for _, c := range []struct {
		status int
		want   string
		stdin  string
		args   []string
	}{
		{1, "there is a user anna already", "correct horse", []string{"user", "create", url, "--name", "anna", "--tenant", "default", "--role", "admin"}},
		{1, "at least 10 characters", "short", []string{"user", "create", url, "--name", "c", "--tenant", "default", "--role", "admin"}},
		{2, "--role", "", []string{"user", "create", url, "--name", "c", "--tenant", "default", "--role", "god"}},
		{2, "--tenant", "", []string{"user", "create", url, "--name", "c", "--tenant", "a\tb", "--role", "admin"}},
		{1, "there is no user nobody", "", []string{"user", "delete", url, "--name", "nobody"}},
		{0, "anna  default  viewer", "", []string{"user", "list", url}},
	} {
		if status, out := byHand(t, c.stdin, c.args...); status != c.status || !strings.Contains(out, c.want) {
			t.Errorf("%q: %d %q", c.args, status, out)
		}
	}

	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Trust()}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	browser := &http.Client{Jar: jar, Transport: transport}
	ask := func(method, path, body string) (*http.Response, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(context.Background(), method, h.http+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := browser.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		b, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer, string(b)
	}
	if a, body := ask("POST", "/v1/session", `{"name":"anna","password":"correct horse"}`); a.StatusCode != 200 || a.Proto != "HTTP/2.0" || !strings.Contains(body, `"role":"viewer"`) {
		t.Fatalf("%d %s %s", a.StatusCode, a.Proto, body)
	}
	if a, body := ask("GET", "/v1/devices", ""); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, body)
	}
	if a, body := ask("POST", "/v1/groups", `{"name":"north"}`); a.StatusCode != 403 {
		t.Errorf("%d %s", a.StatusCode, body)
	}
	if a, body := ask("GET", "/v1/audit?action=session.create&actor=anna", ""); a.StatusCode != 200 || !strings.Contains(body, `"kind":"user"`) || !strings.Contains(body, `"user:anna"`) {
		t.Errorf("%d %s", a.StatusCode, body)
	}
	if a, body := ask("GET", "/v1/audit?action=user.create", ""); a.StatusCode != 200 || !strings.Contains(body, `"kind":"system"`) || strings.Contains(body, "bert") {
		t.Errorf("%d %s", a.StatusCode, body)
	}

	second := renew()
	testkit.Eventually(t, waitMost, func() bool {
		transport.CloseIdleConnections()
		a, _ := ask("GET", "/livez", "")
		shown := a.TLS.PeerCertificates[0]
		return !shown.Equal(first) && shown.Equal(second)
	}, "the new certificate")

	if status, out := byHand(t, "", "user", "delete", url, "--name", "anna"); status != 0 {
		t.Fatal(out)
	}
	testkit.Eventually(t, waitMost, func() bool { a, _ := ask("GET", "/v1/session", ""); return a.StatusCode == 401 }, "the session to be over")
	if a, body := ask("POST", "/v1/session", `{"name":"anna","password":"correct horse"}`); a.StatusCode != 401 {
		t.Errorf("%d %s", a.StatusCode, body)
	}
}

func TestWrongFilesOfHTTPSEndTheProgram(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.pem")
	if err := os.WriteFile(bad, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"no key":    {"--http-tls-cert", bad},
		"no cert":   {"--http-tls-key", bad},
		"not PEM":   {"--http-tls-cert", bad, "--http-tls-key", bad},
		"not there": {"--http-tls-cert", filepath.Join(dir, "nothing"), "--http-tls-key", bad},
	} {
		for _, command := range []string{"serve", "standalone"} {
			status, out := byHand(t, "", append([]string{command}, args...)...)
			if status != launch.StatusUsage || !strings.Contains(out, "--http-tls-cert") {
				t.Errorf("%s, %s: %d %s", command, name, status, out)
			}
		}
	}
}
