package door

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// certificatesEvery is how often the files are looked at. They are small, and read as a whole: a change of content counts,
// however the files were replaced.
const certificatesEvery = 5 * time.Second

// TLSFiles are PEM files.
type TLSFiles struct {
	Cert, Key string // the gateway's certificate chain, and its key
	ClientCA  string // whose certificates of clients count; "": clients are not asked for any

	// ClientOptional lets clients without a certificate go on; one that is shown must be good all the same.
	ClientOptional bool

	Every time.Duration // how often the files are looked at; 0: 5 s
}

// Certificates are what TLS listeners show and trust, read again when the files change. New files that cannot be used
// are logged and counted, and the old ones go on.
type Certificates struct {
	files  TLSFiles
	now    atomic.Pointer[certified]
	failed [sha256.Size]byte // what was tried last and was no good; of run alone
}

// certified is one state of the files.
type certified struct {
	sum      [sha256.Size]byte
	config   *tls.Config
	notAfter time.Time
}

// OpenCertificates reads the files.
func OpenCertificates(files TLSFiles) (*Certificates, error) {
	c := &Certificates{files: files}
	contents, sum, err := c.read()
	if err != nil {
		return nil, err
	}
	first, err := c.parse(contents, sum)
	if err != nil {
		return nil, err
	}
	c.now.Store(first)
	return c, nil
}

// Config is for listeners. Its sessions can be resumed by tickets, also across a change of the files.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.now.Load().config, nil },
	}
}

// HTTPConfig is for an HTTP server, which adds the protocols that it speaks: it shows what is in use, and asks clients for nothing.
func (c *Certificates) HTTPConfig() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.now.Load().config.Certificates[0], nil },
	}
}

// Watch looks at the files until ctx is done, for listeners that are no Door's: notAfter is when the certificate in use expires,
// in Unix seconds, reloads counts changes by their outcome.
func (c *Certificates) Watch(ctx context.Context, log *slog.Logger, notAfter prometheus.Gauge, reloads *prometheus.CounterVec) {
	c.run(ctx, log, &metrics{notAfter: notAfter, reloads: reloads})
}

// read returns the contents of the certificate, the key and the client CA, and a hash of them all.
func (c *Certificates) read() (contents [3][]byte, sum [sha256.Size]byte, err error) {
	hash := sha256.New()
	for i, name := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if name == "" {
			continue
		}
		if contents[i], err = os.ReadFile(name); err != nil {
			return contents, sum, err
		}
		one := sha256.Sum256(contents[i])
		hash.Write(one[:])
	}
	return contents, [sha256.Size]byte(hash.Sum(nil)), nil
}

func (c *Certificates) parse(contents [3][]byte, sum [sha256.Size]byte) (*certified, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", c.files.Cert, c.files.Key, err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{pair},
		MinVersion:   tls.VersionTLS12,
		// Of TLS 1.2 only what has forward secrecy and authenticated encryption; those of TLS 1.3 all have.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if c.files.ClientCA != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[2]) {
			return nil, fmt.Errorf("%s: no certificate in it", c.files.ClientCA)
		}
		config.ClientCAs, config.ClientAuth = pool, tls.RequireAndVerifyClientCert
		if c.files.ClientOptional {
			config.ClientAuth = tls.VerifyClientCertIfGiven
		}
		config.VerifyConnection = again(pool)
	}
	return &certified{sum: sum, config: config, notAfter: pair.Leaf.NotAfter}, nil
}

// again checks the client's certificate of a resumed session: the ticket may be older than the CA.
func again(pool *x509.CertPool) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if !s.DidResume || len(s.PeerCertificates) == 0 {
			return nil
		}
		between := x509.NewCertPool()
		for _, c := range s.PeerCertificates[1:] {
			between.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{
			Roots: pool, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		})
		return err
	}
}

// run looks at the files until ctx is done. Of nil there are none.
func (c *Certificates) run(ctx context.Context, log *slog.Logger, m *metrics) {
	if c == nil {
		return
	}
	c.show(log, m)
	tick := time.NewTicker(cmp.Or(c.files.Every, certificatesEvery))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.reload(log, m)
		case <-ctx.Done():
			return
		}
	}
}

// reload takes the files over when they have changed and are good.
func (c *Certificates) reload(log *slog.Logger, m *metrics) {
	contents, sum, err := c.read()
	if err == nil && sum == c.now.Load().sum {
		c.failed = [sha256.Size]byte{}
		return
	}
	var fresh *certified
	if err == nil {
		fresh, err = c.parse(contents, sum)
	} else {
		sum = sha256.Sum256([]byte(err.Error()))
	}
	if err != nil {
		if !bytes.Equal(c.failed[:], sum[:]) { // once for each state of the files
			c.failed = sum
			m.reloads.WithLabelValues("failed").Inc()
			log.Error("cannot use the new TLS files: the old ones go on", "error", err)
		}
		return
	}
	c.now.Store(fresh)
	c.show(log, m)
	m.reloads.WithLabelValues("ok").Inc()
	log.Info("TLS files read again", "not_after", fresh.notAfter)
}

// show tells what is in use.
func (c *Certificates) show(log *slog.Logger, m *metrics) {
	notAfter := c.now.Load().notAfter
	m.notAfter.Set(float64(notAfter.Unix()))
	if notAfter.Before(time.Now()) {
		log.Warn("the TLS certificate has expired: clients will refuse it", "not_after", notAfter)
	}
}
