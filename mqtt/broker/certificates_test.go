package broker

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"meterline/fleet"
)

// authority is a CA.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	made int64
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue signs what is given; the first is self-signed.
func (a *authority) issue(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	a.made++
	template.SerialNumber = big.NewInt(a.made)
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// server is a certificate for 127.0.0.1.
func (a *authority) server(until time.Time) (*x509.Certificate, *ecdsa.PrivateKey) {
	return a.issue(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: until})
}

// client is a client's certificate.
func (a *authority) client(change func(*x509.Certificate)) *tls.Certificate {
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	change(template)
	cert, key := a.issue(template)
	return &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func (a *authority) trust() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func writePEM(t testing.TB, name, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

func writePair(t testing.TB, files TLSFiles, cert *x509.Certificate, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, files.Cert, "CERTIFICATE", cert.Raw)
	writePEM(t, files.Key, "EC PRIVATE KEY", der)
}

// tlsRig is a broker with a TLS listener from files.
type tlsRig struct {
	*rig
	ca    *authority
	files TLSFiles
}

func startTLS(t *testing.T, change func(*TLSFiles)) *tlsRig {
	t.Helper()
	dir := t.TempDir()
	r := &tlsRig{ca: newAuthority(t)}
	r.files = TLSFiles{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem"),
	}
	writePEM(t, r.files.ClientCA, "CERTIFICATE", r.ca.cert.Raw)
	cert, key := r.ca.server(time.Time{})
	writePair(t, r.files, cert, key)
	change(&r.files)
	certificates, err := OpenCertificates(r.files)
	if err != nil {
		t.Fatal(err)
	}
	certificates.every = 10 * time.Millisecond
	r.rig = start(t, func(o *Options) {
		o.Certificates = certificates
		o.Listeners = append(o.Listeners, Listen{Name: "mqtts", Address: "127.0.0.1:0", TLS: certificates.Config()})
	})
	return r
}

func plainTLS(f *TLSFiles) { f.ClientCA = "" }

// shake does the handshake as a client.
func (r *tlsRig) shake(t testing.TB, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	config.RootCAs = r.ca.trust()
	d := net.Dialer{Timeout: waitMost}
	conn, err := tls.DialWithDialer(&d, "tcp", r.Addr("mqtts"), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestTLSVersionsAndSuites(t *testing.T) {
	r := startTLS(t, plainTLS)
	for name, c := range map[string]struct {
		config *tls.Config
		good   bool
	}{
		"1.3":            {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"1.2":            {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"1.1":            {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"1.2 with CBC":   {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		"1.2, no ECDHE":  {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		"1.2 with GCM":   {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}}, true},
		"another's ALPN": {&tls.Config{NextProtos: []string{"mqtt"}}, true},
	} {
		if _, err := r.shake(t, c.config); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	r.awaitMetric(t, 3, "clients_refused_total", "reason", "tls")
}

func TestTLSSessionsAreResumed(t *testing.T) {
	r := startTLS(t, plainTLS)
	cache := tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		conn, err := r.shake(t, &tls.Config{ClientSessionCache: cache, ServerName: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		say(t, conn, dev("d1")).expect(packets.Connack) // the ticket comes with what is read
		if resumed := conn.ConnectionState().DidResume; resumed != (i == 1) {
			t.Errorf("connection %d: resumed %t", i, resumed)
		}
	}
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	r := startTLS(t, plainTLS)
	serial := func() int64 {
		conn, err := r.shake(t, &tls.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}
	if got := serial(); got != 2 {
		t.Fatalf("certificate %d", got)
	}
	old := r.shakeAndSay(t)
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	cert, key := r.ca.server(until)
	writePair(t, r.files, cert, key)
	r.awaitMetric(t, 1, "tls_reloads_total", "outcome", "ok") // it is polled
	if got := serial(); got != 3 {
		t.Errorf("certificate %d after the change", got)
	}
	if got := r.metric(t, "tls_certificate_not_after_seconds"); got != float64(until.Unix()) {
		t.Errorf("not after %v, want %v", got, until.Unix())
	}
	old.ping() // who is connected stays

	if err := os.WriteFile(r.files.Cert, []byte("-----BEGIN CERTIFICATE-----\nrubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.awaitMetric(t, 1, "tls_reloads_total", "outcome", "failed")
	if got := serial(); got != 3 {
		t.Errorf("certificate %d after rubbish", got)
	}

	log, m := slog.New(slog.DiscardHandler), newMetrics(nil) // now step by step
	certs := &Certificates{files: r.files}
	certs.now.Store(r.Broker.certs.now.Load())
	for range 3 {
		certs.reload(log, m)
	}
	if failed := value(t, m.reloads.WithLabelValues("failed")); failed != 1 {
		t.Errorf("counted %v times, and it was bad once", failed)
	}
	if certs.now.Load() != r.Broker.certs.now.Load() {
		t.Error("the bad one is used")
	}
	if err := os.Remove(r.files.Key); err != nil {
		t.Fatal(err)
	}
	certs.reload(log, m)
	if failed := value(t, m.reloads.WithLabelValues("failed")); failed != 2 {
		t.Errorf("a missing file: %v failures", failed)
	}
	writePair(t, r.files, cert, key)
	certs.reload(log, m) // as it was
	if got := serial(); got != 3 {
		t.Errorf("certificate %d at last", got)
	}
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
	r := startTLS(t, func(f *TLSFiles) { f.ClientOptional = true })
	mine := r.ca.client(names("d1"))
	uri := func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "urn", Opaque: "meterline:device:d2"}} }
	stranger := newAuthority(t)
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
		{"a name by URI", r.ca.client(uri), unspoken("d2"), in},
		{"several names", r.ca.client(names("d3", "d4")), unspoken("d4"), in},
		{"several names, none said", r.ca.client(names("d3", "d4")), hi{id: "d4", nobody: true}, out},
		{"common name only", r.ca.client(func(c *x509.Certificate) { c.Subject.CommonName = "d1" }), unspoken("d1"), out},
		{"nobody's certificate, with a password", r.ca.client(names()), dev("d1"), in},
		{"nobody's certificate, without", r.ca.client(names()), unspoken("d1"), out},
		{"a wildcard", r.ca.client(names("*.d1")), unspoken("d1"), out},
		{"a disabled device", r.ca.client(names("off1")), unspoken("off1"), out},
		{"a meter behind an IPC", r.ca.client(names("meter1")), unspoken("meter1"), out},
		{"an unknown device", r.ca.client(names("d99")), unspoken("d99"), out},
		{"a service with its name", r.ca.client(names("service")), hi{id: "s", user: "service", pass: "reader"}, in},
		{"a service with its name, no token", r.ca.client(names("service")), hi{id: "s", user: "service", unspoken: true}, out},
		{"no certificate, with a password", nil, dev("d1"), in},
		{"no certificate, without", nil, unspoken("d1"), out},
		{"of another CA", stranger.client(names("d1")), dev("d1"), broken},
		{"not for clients", r.ca.client(func(c *x509.Certificate) {
			c.DNSNames, c.ExtKeyUsage = []string{"d1"}, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), dev("d1"), broken},
		{"expired", r.ca.client(func(c *x509.Certificate) { c.DNSNames, c.NotAfter = []string{"d1"}, time.Now().Add(-time.Minute) }), dev("d1"), broken},
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
	r := startTLS(t, func(*TLSFiles) {})
	if _, err := r.knock(t, nil, dev("d1")); err == nil {
		t.Error("a client without a certificate gets an answer")
	}
	if code, err := r.knock(t, r.ca.client(names("d1")), hi{id: "d1", user: "d1", unspoken: true}); err != nil || code != 0 {
		t.Errorf("with one: %d, %v", code, err)
	}
}

// A session by certificate does not hang on the secret, but ends with the device.
func TestSessionsByCertificateAreRechecked(t *testing.T) {
	r := startTLS(t, func(*TLSFiles) {})
	conn, err := r.shake(t, &tls.Config{Certificates: []tls.Certificate{*r.ca.client(names("d1"))}})
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
	r := startTLS(t, func(*TLSFiles) {})
	config := &tls.Config{
		Certificates:       []tls.Certificate{*r.ca.client(names("d1"))},
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
	writePEM(t, r.files.ClientCA, "CERTIFICATE", newAuthority(t).cert.Raw)
	r.awaitMetric(t, 1, "tls_reloads_total", "outcome", "ok")
	if _, err := try(); err == nil {
		t.Error("a certificate of a CA that is gone is taken from a ticket")
	}
}

func TestTLSFilesThatAreNoGood(t *testing.T) {
	dir := t.TempDir()
	ca := newAuthority(t)
	files := TLSFiles{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k"), ClientCA: filepath.Join(dir, "ca")}
	for i, prepare := range []func(){
		func() {},
		func() { cert, key := ca.server(time.Time{}); writePair(t, files, cert, key) }, // no CA
		func() { writePEM(t, files.ClientCA, "CERTIFICATE", []byte("rubbish")) },
		func() { writePEM(t, files.ClientCA, "OTHER", ca.cert.Raw) },
		func() {
			writePEM(t, files.ClientCA, "CERTIFICATE", ca.cert.Raw)
			cert, _ := ca.server(time.Time{})
			writePEM(t, files.Cert, "CERTIFICATE", cert.Raw) // another's key
		},
	} {
		prepare()
		if _, err := OpenCertificates(files); err == nil {
			t.Error(fmt.Sprint("taken: ", i))
		}
	}
}

// value is what a counter stands at.
func value(t testing.TB, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}
