package door

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"meterline/testkit"
)

// tlsRig is a door with a TLS listener from files.
type tlsRig struct {
	*rig
	ca    *testkit.Authority
	files TLSFiles
	certs *Certificates
}

func beginTLS(t *testing.T, change func(*TLSFiles)) *tlsRig {
	t.Helper()
	dir := t.TempDir()
	r := &tlsRig{ca: testkit.NewAuthority(t), files: TLSFiles{
		Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), ClientCA: filepath.Join(dir, "ca.pem"),
		Every: 10 * time.Millisecond,
	}}
	testkit.WritePEM(t, r.files.ClientCA, "CERTIFICATE", r.ca.Cert.Raw)
	cert, key := r.ca.Server(time.Time{})
	testkit.WritePair(t, r.files.Cert, r.files.Key, cert, key)
	change(&r.files)
	var err error
	if r.certs, err = OpenCertificates(r.files); err != nil {
		t.Fatal(err)
	}
	r.rig = begin(t, func(o *Options) {
		o.Certificates = r.certs
		o.Listeners = []Listen{{Name: "tls", Address: "127.0.0.1:0", TLS: r.certs.Config()}}
	})
	return r
}

func plainTLS(f *TLSFiles) { f.ClientCA = "" }

// shake does the handshake as a client.
func (r *tlsRig) shake(t testing.TB, config *tls.Config) (*tls.Conn, error) {
	t.Helper()
	config.RootCAs = r.ca.Trust()
	d := net.Dialer{Timeout: waitMost}
	conn, err := tls.DialWithDialer(&d, "tcp", r.address("tls"), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestTLSVersionsAndSuites(t *testing.T) {
	r := beginTLS(t, plainTLS)
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
	r.awaitMetric(t, 3, "clients_refused_total", "tls")
}

func TestTLSSessionsAreResumed(t *testing.T) {
	r := beginTLS(t, plainTLS)
	cache := tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		conn, err := r.shake(t, &tls.Config{ClientSessionCache: cache, ServerName: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		if err := says(conn, "+"); err != nil { // the ticket comes with what is read
			t.Fatal(err)
		}
		if resumed := conn.ConnectionState().DidResume; resumed != (i == 1) {
			t.Errorf("connection %d: resumed %t", i, resumed)
		}
	}
}

// The certificate that a connection is handed over with is the client's, and was verified.
func TestTheClientsCertificateIsHandedOver(t *testing.T) {
	r := beginTLS(t, func(f *TLSFiles) { f.ClientOptional = true })
	mine := r.ca.Client(func(c *x509.Certificate) { c.DNSNames = []string{"d1"} })
	for _, config := range []*tls.Config{{}, {Certificates: []tls.Certificate{*mine}}} {
		conn, err := r.shake(t, config)
		if err != nil {
			t.Fatal(err)
		}
		if err := says(conn, "+"); err != nil {
			t.Fatal(err)
		}
		leaf := r.all()[0].Certificate()
		if showed := len(config.Certificates) > 0; (leaf != nil) != showed || showed && leaf.DNSNames[0] != "d1" {
			t.Errorf("certificate %v", leaf)
		}
		_ = conn.Close()
		eventually(t, "it is over", func() bool { return len(r.all()) == 0 })
	}
	stranger := testkit.NewAuthority(t).Client(func(*x509.Certificate) {})
	if conn, err := r.shake(t, &tls.Config{Certificates: []tls.Certificate{*stranger}}); err == nil {
		if err := says(conn, "+"); err == nil { // in TLS 1.3 a refused certificate shows here
			t.Error("another CA's certificate is taken")
		}
	}
	r.awaitMetric(t, 1, "clients_refused_total", "certificate")
}

func TestTLSFilesAreReadAgain(t *testing.T) {
	r := beginTLS(t, plainTLS)
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
	old, err := r.shake(t, &tls.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := says(old, "+"); err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(48 * time.Hour).Truncate(time.Second)
	cert, key := r.ca.Server(until)
	testkit.WritePair(t, r.files.Cert, r.files.Key, cert, key)
	r.awaitMetric(t, 1, "tls_reloads_total", "ok") // it is polled
	if got := serial(); got != 3 {
		t.Errorf("certificate %d after the change", got)
	}
	if got := r.metric(t, "tls_certificate_not_after_seconds"); got != float64(until.Unix()) {
		t.Errorf("not after %v, want %v", got, until.Unix())
	}
	if err := says(old, "x"); err != nil { // who is connected stays
		t.Error(err)
	}

	if err := os.WriteFile(r.files.Cert, []byte("-----BEGIN CERTIFICATE-----\nrubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.awaitMetric(t, 1, "tls_reloads_total", "failed")
	if got := serial(); got != 3 {
		t.Errorf("certificate %d after rubbish", got)
	}

	log, m := slog.New(slog.DiscardHandler), newMetrics(nil) // now step by step
	certs := &Certificates{files: r.files}
	certs.now.Store(r.certs.now.Load())
	for range 3 {
		certs.reload(log, m)
	}
	if failed := value(t, m.reloads.WithLabelValues("failed")); failed != 1 {
		t.Errorf("counted %v times, and it was bad once", failed)
	}
	if certs.now.Load() != r.certs.now.Load() {
		t.Error("the bad one is used")
	}
	if err := os.Remove(r.files.Key); err != nil {
		t.Fatal(err)
	}
	certs.reload(log, m)
	if failed := value(t, m.reloads.WithLabelValues("failed")); failed != 2 {
		t.Errorf("a missing file: %v failures", failed)
	}
	testkit.WritePair(t, r.files.Cert, r.files.Key, cert, key)
	certs.reload(log, m) // as it was
	if got := serial(); got != 3 {
		t.Errorf("certificate %d at last", got)
	}
}

func TestTLSFilesThatAreNoGood(t *testing.T) {
	dir := t.TempDir()
	ca := testkit.NewAuthority(t)
	files := TLSFiles{Cert: filepath.Join(dir, "c"), Key: filepath.Join(dir, "k"), ClientCA: filepath.Join(dir, "ca")}
	for i, prepare := range []func(){
		func() {},
		func() { cert, key := ca.Server(time.Time{}); testkit.WritePair(t, files.Cert, files.Key, cert, key) }, // no CA
		func() { testkit.WritePEM(t, files.ClientCA, "CERTIFICATE", []byte("rubbish")) },
		func() { testkit.WritePEM(t, files.ClientCA, "OTHER", ca.Cert.Raw) },
		func() {
			testkit.WritePEM(t, files.ClientCA, "CERTIFICATE", ca.Cert.Raw)
			cert, _ := ca.Server(time.Time{})
			testkit.WritePEM(t, files.Cert, "CERTIFICATE", cert.Raw) // another's key
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
