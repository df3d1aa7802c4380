package httpapi

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health answers /livez, /readyz and /metrics, and nothing else: for processes without an API.
func Health(checks map[string]func(context.Context) error, gatherer prometheus.Gatherer, logger *slog.Logger, alarms func() []string) http.Handler {
	a := &API{checks: checks, logger: logger, alarms: alarms, mux: http.NewServeMux()}
	a.addHealth(gatherer)
	return a.mux
}

// addHealth adds the calls that need no token.
func (a *API) addHealth(gatherer prometheus.Gatherer) {
	a.mux.HandleFunc("GET /livez", static("application/json", []byte(`{"status":"ok"}`+"\n")))
	a.mux.HandleFunc("GET /readyz", a.ready)
	a.mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
}
