package launch

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/mqtt/door"
)

// HTTPS are the flags of HTTP over TLS.
type HTTPS struct {
	Cert string `name:"http-tls-cert" placeholder:"FILE" help:"Certificate chain for HTTP, PEM: --http then speaks https alone. The files are read again when they change."`
	Key  string `name:"http-tls-key" placeholder:"FILE" help:"Its key, PEM."`

	opened *door.Certificates // by certificates
}

// Validate is called by kong.
func (h *HTTPS) Validate() error {
	if (h.Cert == "") != (h.Key == "") {
		return errors.New("--http-tls-cert, --http-tls-key: must be given together")
	}
	_, err := h.certificates()
	return err
}

// certificates is nil without TLS. It opens the files once: whoever validates has them already.
func (h *HTTPS) certificates() (*door.Certificates, error) {
	if h.Cert == "" || h.opened != nil {
		return h.opened, nil
	}
	c, err := door.OpenCertificates(door.TLSFiles{Cert: h.Cert, Key: h.Key})
	if err != nil {
		return nil, fmt.Errorf("--http-tls-cert, --http-tls-key: %w", err)
	}
	h.opened = c
	return c, nil
}

// Scheme is what the URL of the server begins with.
func (h *HTTPS) Scheme() string {
	if h.Cert == "" {
		return "http"
	}
	return "https"
}

// Open reads the files, and again when they change as long as the stack stands; nil without TLS.
func (h *HTTPS) Open(stack *Stack, logger *slog.Logger, metrics prometheus.Registerer) (*tls.Config, error) {
	c, err := h.certificates()
	if c == nil || err != nil {
		return nil, err
	}
	notAfter := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "meterline_http_tls_certificate_not_after_seconds", Help: "When the certificate of HTTP expires, Unix time.",
	})
	reloads := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meterline_http_tls_reloads_total", Help: "Changes of the TLS files of HTTP.",
	}, []string{"outcome"})
	metrics.MustRegister(notAfter, reloads)
	stack.Go("http certificates", func(ctx context.Context) error {
		c.Watch(ctx, logger, notAfter, reloads)
		return nil
	})
	return c.HTTPConfig(), nil
}
