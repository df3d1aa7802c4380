package console_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"meterline/meterread"
	"meterline/simulator"
	"meterline/testkit"
	"meterline/testkit/cluster"
)

var (
	screenshots = flag.String("screenshots", "", "directory to write screenshots of every page to, instead of testing")
	devices     = flag.Int("devices", 0, "measure the list of so many devices, instead of testing")
)

const (
	patience  = 2 * time.Minute
	ipcs      = 2
	meters    = 6 // behind each
	group     = "plant"
	npm       = "console/test"
	operators = "a password of some length"
)

// silentSecret is that of a device that the test plays: 32 bytes in base64url.
var silentSecret = strings.Repeat("A", 43)

// TestTypes has the compiler look at the page: esbuild does not. A key that a dictionary lacks fails here.
func TestTypes(t *testing.T) {
	t.Parallel()
	modules := testkit.Node(t, npm, "-").Env
	tsc := filepath.Join(strings.TrimPrefix(modules[len(modules)-1], "NODE_PATH="), "typescript", "bin", "tsc")
	if out, err := testkit.Node(t, npm, tsc, "-p", ".").CombinedOutput(); err != nil {
		t.Errorf("tsc: %v\n%s", err, out)
	}
}

// TestBrowser has Chromium use the page, over a gateway, a backend, PostgreSQL and Redis, with simulated meters.
func TestBrowser(t *testing.T) {
	script := "browser.mjs"
	switch {
	case *screenshots != "":
		script = "screenshots.mjs"
	case *devices > 0:
		script = "devices.mjs"
	}
	node := testkit.Node(t, npm, filepath.Join("test", script))
	chromium := testkit.Program(t, "chromium", "chromium")
	publish := testkit.Program(t, "mosquitto_pub", "mosquitto-clients")
	c, err := cluster.Start(t.Context(), cluster.Options{Gateways: 1, Backends: 1, Direct: true})
	testkit.Need(t, err)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	sites := simulate(t, c)
	where := map[string]any{
		"api": c.API()[0], "chromium": chromium, "user": "olga", "password": operators, "viewer": viewer(t, c),
		"group": group, "meters": ipcs * meters, "meter": sites[0].Meters[0].ID, "silent": "silent", "token": c.Token, "out": *screenshots, "devices": *devices,
	}
	mischief(t, c, publish)
	if *screenshots != "" {
		past(t, c, publish, sites[0])
	}
	if *devices > 0 {
		many(t, c, *devices)
	}
	house, err := json.Marshal(where)
	if err != nil {
		t.Fatal(err)
	}
	node.Env = append(node.Env, "HOUSE="+string(house))
	out, err := node.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatalf("%s: %v", script, err)
	}
}

// simulate connects IPCs whose meters answer so slowly that their states are seen.
func simulate(t *testing.T, c *cluster.Cluster) []simulator.Site {
	t.Helper()
	api := simulator.NewAPI(c.API()[0], c.Token)
	sites := simulator.Layout{Prefix: "plant", IPCs: ipcs, MetersPerIPC: meters, BusesPerIPC: 2, Key: "k"}.Sites()
	if err := api.Install(t.Context(), sites, group); err != nil {
		t.Fatal(err)
	}
	behaviour := simulator.DefaultBehaviour()
	behaviour.AnswerMin, behaviour.AnswerMax, behaviour.BusTimeoutRate = 20*time.Millisecond, 60*time.Millisecond, 0
	fleet, err := simulator.New(simulator.Options{Brokers: c.MQTT(), Sites: sites, Behaviour: behaviour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = fleet.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait(); api.Close() })
	select {
	case <-fleet.Ready():
	case <-time.After(patience):
		t.Fatal("the fleet did not connect")
	}
	return sites
}

// viewer makes people: olga, who may do everything, and a token that only looks.
func viewer(t *testing.T, c *cluster.Cluster) (token string) {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(operators+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Backend(t.Context(), "user", "create", "--name", "olga", "--tenant", "acme", "--role", "admin", "--password-file", password); err != nil {
		t.Fatal(err)
	}
	token, err := c.Backend(t.Context(), "token", "create", "--tenant", "acme", "--scopes", "fleet:read,commands:read,readings:read,audit:read")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(token)
}

// mischief is a device that is never there, but has sent what cannot be understood, and an alarm with markup in it.
func mischief(t *testing.T, c *cluster.Cluster, publish string) {
	t.Helper()
	api := simulator.NewAPI(c.API()[0], c.Token)
	defer api.Close()
	if err := api.Import(t.Context(), []simulator.Registration{{ID: "silent", Name: "Never there", Kind: "direct", Enabled: true, Secret: silentSecret}}); err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(c.MQTT()[0], ":")
	for _, m := range [][2]string{
		{"result", `{"v":1,"message_id":"1","results":[{"command_id":"<script>alert(1)</script>"`},
		{"readings", `{"v":9}`},
		{"event", `{"v":1,"message_id":"3","type":"alarm","device_id":"silent","at":"2026-01-31T12:00:00Z","data":{"code":"COVER_OPEN","note":"<img src=x onerror=alert(1)>"}}`},
	} {
		pub := exec.Command(publish, "-h", host, "-p", port, "-i", "silent:hand", "-u", "silent", "-P", silentSecret, "-q", "1", "-t", "meterline/v1/silent/up/"+m[0], "-m", m[1])
		if out, err := pub.CombinedOutput(); err != nil {
			t.Fatalf("publish: %v: %s", err, out)
		}
	}
}

// past gives the pages something to show: an hour of counts, and a day of readings of one meter.
func past(t *testing.T, c *cluster.Cluster, publish string, site simulator.Site) {
	t.Helper()
	for _, statement := range []string{
		`INSERT INTO minutes (at, tenant, readings, succeeded, failed, expired, dead)
		SELECT date_trunc('minute', now()) - m * interval '1 minute', 'acme', 900 + 300 * sin(m / 7.0) + random() * 60, 220 + 70 * sin(m / 7.0), 3 + random() * 4 + CASE WHEN m BETWEEN 22 AND 27 THEN 60 ELSE 0 END, 1, 0
		FROM generate_series(-10, 62) m ON CONFLICT (at, tenant) DO UPDATE SET readings = excluded.readings, succeeded = excluded.succeeded`,
		`INSERT INTO minute_codes (at, tenant, code, n) SELECT date_trunc('minute', now()) - interval '25 minutes', 'acme', code, n FROM (VALUES ('BUS_TIMEOUT', 214), ('BUSY', 61), ('CRC_ERROR', 38), ('NO_SUCH_ITEM', 9)) v (code, n)`,
	} {
		if _, err := c.DB.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	type reading struct {
		Device meterread.DeviceID `json:"device_id"`
		Item   string             `json:"item"`
		Value  string             `json:"value"`
		Unit   string             `json:"unit"`
		ReadAt time.Time          `json:"read_at"`
	}
	readings, power := []reading{}, 0.0
	for i := range 96 {
		at := time.Now().Add(-time.Duration(96-i) * 15 * time.Minute).UTC().Truncate(time.Second)
		power = 3 + 2.4*math.Sin(float64(i)/15) + 0.5*math.Sin(float64(i)*1.7)
		readings = append(readings, reading{site.Meters[0].ID, "1-0:1.7.0", strconv.FormatFloat(power, 'f', 3, 64), "kW", at})
	}
	message, err := json.Marshal(map[string]any{"v": 1, "message_id": "past", "readings": readings})
	if err != nil {
		t.Fatal(err)
	}
	host, port, _ := strings.Cut(c.MQTT()[0], ":")
	pub := exec.Command(publish, "-h", host, "-p", port, "-i", string(site.ID)+":past", "-u", site.Credentials.Username, "-P", site.Credentials.Password, "-q", "1", "-t", "meterline/v1/"+string(site.ID)+"/up/readings", "-m", string(message))
	if out, err := pub.CombinedOutput(); err != nil {
		t.Fatalf("publish: %v: %s", err, out)
	}
}

// many are more devices than anybody looks at one by one.
func many(t *testing.T, c *cluster.Cluster, n int) {
	t.Helper()
	api := simulator.NewAPI(c.API()[0], c.Token)
	defer api.Close()
	all := make([]simulator.Registration, n)
	for i := range all {
		all[i] = simulator.Registration{
			ID: meterread.DeviceID(fmt.Sprintf("m-%06d", i)), Name: fmt.Sprintf("Meter %d", i), Kind: "meter", EndpointID: "plant-ipc-0001", Enabled: true,
			Route: simulator.Route(1, fmt.Sprintf("%012d", i)),
		}
	}
	if err := api.Import(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}
