package main

import (
	"bytes"
	"strings"
	"testing"
)

// A bad value is one line that names the flag, and exit status 2.
func TestBadValues(t *testing.T) {
	t.Parallel()
	for flag, args := range map[string][]string{
		"--mqtt:":                       {"--mqtt=nonsense"},
		"--mqtt-ws:":                    {"--mqtt-ws=:no-such-service"},
		"--mqtt-tls:":                   {"--mqtt-tls=:8883"},
		"--http:":                       {"--http=8081"},
		"--debug:":                      {"--debug=6060"},
		"--debug: must be another":      {"--debug=127.0.0.1:8081"},
		"--advertise:":                  {"--advertise=gateway"},
		"--id:":                         {"--id=a/b"},
		"--database-url:":               {"--database-url=mysql://x"},
		"--redis-url:":                  {"--redis-url=x"},
		"--uplink-redis-url:":           {"--uplink-redis-url=redis+sentinel://h:26379"},
		"--uplink-replicas:":            {"--uplink-replicas=-1"},
		"--mqtt-wss:":                   {"--mqtt-wss=:8884"},
		"--tls-client-ca:":              {"--tls-client-ca=ca.pem"},
		"--tls-client-auth":             {"--tls-client-auth=perhaps"},
		"--tls-cert:":                   {"--tls-cert=server.pem", "--tls-key=server.key"},
		"--tls-cert, --tls-key":         {"--mqtt-tls=:8883", "--tls-cert=no-such-file.pem", "--tls-key=no-such-file.key"},
		"--proxy-from:":                 {"--proxy-from=10.0.0.0/8,nonsense"},
		"--max-unadmitted:":             {"--max-unadmitted=0"},
		"--max-unadmitted-per-address:": {"--max-unadmitted-per-address=-1"},
		"--publish-rate:":               {"--publish-rate=0.01"},
		"--publish-bytes:":              {"--publish-bytes=1000"},
		"--max-payload:":                {"--max-payload=1"},
		"--log-level":                   {"--log-level=loud"},
		"--ban-after:":                  {"--ban-after=-1"},
		"--ban-for:":                    {"--ban-for=48h"},
		"--flap-limit:":                 {"--flap-limit=-1"},
	} {
		var stdout, stderr bytes.Buffer
		status := run(t.Context(), args, &stdout, &stderr)
		if said := stderr.String(); status != 2 || strings.Count(said, "\n") != 1 || !strings.Contains(said, flag) {
			t.Errorf("%s: status %d, %q", args, status, said)
		}
	}
}

func TestEverywhere(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		":1883": true, "0.0.0.0:1883": true, "[::]:1883": true,
		"127.0.0.1:1883": false, "gateway-1:1883": false, "[fe80::1]:1883": false,
	} {
		if got := everywhere(address); got != want {
			t.Errorf("everywhere(%q) = %t", address, got)
		}
	}
}
