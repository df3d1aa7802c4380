package broker

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"meterline/fleet"
	"meterline/mqtt/door"
	"meterline/testkit"
)

// tlsRig is a broker with a TLS listener from files.
type tlsRig struct {
	*rig
	ca    *testkit.Authority
	files door.TLSFiles
}

func startTLS(t *testing.T, change func(*door.TLSFiles)) *tlsRig {
	t.Helper()
	dir := t.TempDir()
	r := &tlsRig{ca: testkit.NewAuthority(t)}
	r.files = door.TLSFiles{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem"),
		Every: 10 * time.Millisecond,
	}
	testkit.WritePEM(t, r.files.ClientCA, "CERTIFICATE", r.ca.Cert.Raw)
	cert, key := r.ca.Server(time.Time{})
	testkit.WritePair(t, r.files.Cert, r.files.Key, cert, key)
	change(&r.files)
	certificates, err := door.OpenCertificates(r.files)
	if err != nil {
		t.Fatal(err)
	}
	r.rig = start(t, func(o *Options) {
		o.Certificates = certificates
		o.Listeners = append(o.Listeners, door.Listen{Name: "mqtts", Address: "127.0.0.1:0", TLS: certificates.Config()})
	})
	return r
}

func plainTLS(f *door.TLSFiles) { f.ClientCA = "" }

// shake does the handshake as a client.
func (r *tlsRig) shake(t testing.TB, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	config.RootCAs = r.ca.Trust()
	d := net.Dialer{Timeout: waitMost}
	conn, err := tls.DialWithDialer(&d, "tcp", r.Addr("mqtts"), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func (r *tlsRig) shakeAndSay(t testing.TB) *client {
	t.Helper()
	conn, err := r.shake(t, &tls.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := say(t, conn, dev("d1"))
	c.expect(packets.Connack)
	return c
}

func names(dns ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = dns }
}

// knock connects by TLS with a certificate and returns the code of CONNACK, or an error when there was no handshake.
func (r *tlsRig) knock(t testing.TB, cert *tls.Certificate, h hi) (byte, error) {
	t.Helper()
	config := &tls.Config{}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	conn, err := r.shake(t, config)
	if err != nil {
		return 0, err
	}
	c := speaker(t, conn, h)
	if err := c.trySend(h.packet()); err != nil {
		return 0, err
	}
	pk, err := c.read(waitMost) // in TLS 1.3 a refused certificate shows here
	return pk.ReasonCode, err
}

func TestCertificatesAdmitDevices(t *testing.T) {
	r := startTLS(t, func(f *door.TLSFiles) { f.ClientOptional = true })
	mine := r.ca.Client(names("d1"))
	uri := func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "meterline:device:d2"}} }
	stranger := testkit.NewAuthority(t)
	unspoken := func(id string) hi { return hi{id: id, user: id, unspoken: true} }
	const in, out, broken = 0, 5, 255
	for _, c := range []struct {
		name string
		cert *tls.Certificate
		hi   hi
		want byte
	}{
		{"certificate alone", mine, unspoken("d1"), in},
		{"and the right password", mine, dev("d1"), in},
		{"and a wrong password", mine, hi{id: "d1", user: "d1", pass: "no"}, out},
		{"neither name nor password", mine, hi{id: "d1", nobody: true}, in},
		{"another's name", mine, unspoken("d2"), out},
		{"another's name and password", mine, dev("d2"), out},
		{"a suffixed session", mine, hi{id: "d1:x", user: "d1", unspoken: true}, in},
		{"another's client id", mine, hi{id: "d2", user: "d1", unspoken: true}, 2},
		{"service with a device's certificate", mine, hi{id: "s", user: "service", pass: "reader"}, out},
		{"a name by URI", r.ca.Client(uri), unspoken("d2"), in},
		{"several names", r.ca.Client(names("d3", "d4")), unspoken("d4"), in},
		{"several names, none said", r.ca.Client(names("d3", "d4")), hi{id: "d4", nobody: true}, out},
		{"common name only", r.ca.Client(func(c *x509.Certificate) { c.Subject.CommonName = "d1" }), unspoken("d1"), out},
		{"nobody's certificate, with a password", r.ca.Client(names()), dev("d1"), in},
		{"nobody's certificate, without", r.ca.Client(names()), unspoken("d1"), out},
		{"a wildcard", r.ca.Client(names("*.d1")), unspoken("d1"), out},
		{"a disabled device", r.ca.Client(names("off1")), unspoken("off1"), out},
		{"a meter behind an IPC", r.ca.Client(names("meter1")), unspoken("meter1"), out},
		{"an unknown device", r.ca.Client(names("d99")), unspoken("d99"), out},
		{"a service with its name", r.ca.Client(names("service")), hi{id: "s", user: "service", pass: "reader"}, in},
		{"a service with its name, no token", r.ca.Client(names("service")), hi{id: "s", user: "service", unspoken: true}, out},
		{"no certificate, with a password", nil, dev("d1"), in},
		{"no certificate, without", nil, unspoken("d1"), out},
		{"of another CA", stranger.Client(names("d1")), dev("d1"), broken},
		{"not for clients", r.ca.Client(func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{"d1"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), dev("d1"), broken},
		{"expired", r.ca.Client(func(c *x509.Certificate) { c.DNSNames, c.NotAfter = []string{"d1"}, time.Now().Add(-time.Minute) }), dev("d1"), broken},
	} {
		got, err := r.knock(t, c.cert, c.hi)
		if err != nil {
			got = broken
		}
		if got != c.want {
			t.Errorf("%s: %d (%v), want %d", c.name, got, err, c.want)
		}
	}
	r.awaitMetric(t, 3, "clients_refused_total", "reason", "certificate")
}

func TestCertificatesCanBeRequired(t *testing.T) {
	r := startTLS(t, func(*door.TLSFiles) {})
	if _, err := r.knock(t, nil, dev("d1")); err == nil {
		t.Error("a client without a certificate gets an answer")
	}
	if code, err := r.knock(t, r.ca.Client(names("d1")), hi{id: "d1", user: "d1", unspoken: true}); err != nil || code != 0 {
		t.Errorf("with one: %d, %v", code, err)
	}
}

// A session by certificate does not hang on the secret, but ends with the device.
func TestSessionsByCertificateAreRechecked(t *testing.T) {
	r := startTLS(t, func(*door.TLSFiles) {})
	conn, err := r.shake(t, &tls.Config{Certificates: []tls.Certificate{*r.ca.Client(names("d1"))}})
	if err != nil {
		t.Fatal(err)
	}
	c := say(t, conn, hi{id: "d1", user: "d1", unspoken: true})
	c.expect(packets.Connack)
	changed := device("d1", "t1", fleet.Direct)
	changed.MAC = pepper.MAC("another")
	r.creds.set(changed)
	recheck := func() {
		for i := range rollCallSlices {
			r.recheckSlice(t.Context(), i)
		}
	}
	recheck()
	c.ping()
	changed.Enabled = false
	r.creds.set(changed)
	recheck()
	c.closed()
}

// A ticket does not outlive the CA.
func TestResumptionAsksTheNewCA(t *testing.T) {
	r := startTLS(t, func(*door.TLSFiles) {})
	config := &tls.Config{
		Certificates:       []tls.Certificate{*r.ca.Client(names("d1"))},
		ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "127.0.0.1",
	}
	try := func() (resumed bool, err error) {
		conn, err := r.shake(t, config)
		if err != nil {
			return false, err
		}
		c := speaker(t, conn, dev("d1"))
		_ = c.trySend(hi{id: "d1", user: "d1", unspoken: true}.packet())
		_, err = c.read(waitMost)
		return conn.ConnectionState().DidResume, err
	}
	for i := range 2 {
		if resumed, err := try(); err != nil || resumed != (i == 1) {
			t.Fatalf("connection %d: resumed %t, %v", i, resumed, err)
		}
	}
	testkit.WritePEM(t, r.files.ClientCA, "CERTIFICATE", testkit.NewAuthority(t).Cert.Raw)
	r.awaitMetric(t, 1, "tls_reloads_total", "outcome", "ok")
	if _, err := try(); err == nil {
		t.Error("a certificate of a CA that is gone is taken from a ticket")
	}
}
