package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/danielgtaylor/huma/v2/yaml"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"meterline/fleet"
)

// Options is what an API is made of.
type Options struct {
	Commands Commands
	Fleet    *fleet.Service
	Sessions Sessions
	Audit    AuditLog
	Overview Overviews
	Logger   *slog.Logger
	Metrics  prometheus.Registerer
	Gatherer prometheus.Gatherer // what /metrics shows
	// Checks are what /readyz asks, by name. They must return when their context is done.
	Checks map[string]func(context.Context) error
	// Alarms says in a line each what is wrong although requests are answered; nil when nothing ever is. /readyz shows them.
	Alarms func() []string
	// Requests is how many requests per second a token may make, in bursts of up to Burst; 0 sets no limit.
	Requests rate.Limit
	Burst    int
}

// API answers HTTP requests. It is made once, by New, and safe for concurrent use.
type API struct {
	commands Commands
	fleet    *fleet.Service
	sessions Sessions
	audit    AuditLog
	overview Overviews
	logger   *slog.Logger
	checks   map[string]func(context.Context) error
	alarms   func() []string

	waiting     atomic.Int64 // requests that may take long
	mostWaiting int64

	mux                *http.ServeMux
	huma               huma.API
	routes             map[string]route // by ServeMux pattern
	spec               []byte           // JSON
	tokens             *tokenCache
	limits             *limiter
	tries, triesOfName *limiter // to sign in
	crossOrigin        *http.CrossOriginProtection
	outage             *outage
	metrics            *metrics
	times              times
}

// times are how long things may take; tests shorten them.
type times struct {
	request   time.Duration // an ordinary request
	body      time.Duration // between two parts of a request's body that arrive; an ordinary body as a whole
	write     time.Duration // of a part of a streamed answer
	heartbeat time.Duration // of silence in an event stream
}

// New makes an API and its OpenAPI description.
func New(o Options) (*API, error) {
	a := &API{commands: o.Commands, fleet: o.Fleet, sessions: o.Sessions, audit: o.Audit, overview: o.Overview, logger: o.Logger, checks: o.Checks, alarms: o.Alarms, mostWaiting: mostWaiting,
		mux: http.NewServeMux(), routes: map[string]route{},
		tokens: newTokenCache(o.Fleet.Known), limits: newLimiter(o.Requests, o.Burst, "the token has made too many requests"), crossOrigin: http.NewCrossOriginProtection(), outage: newOutage(), metrics: newMetrics(o.Metrics),
		times: times{request: 30 * time.Second, body: 15 * time.Second, write: 10 * time.Second, heartbeat: 15 * time.Second},
	}
	a.tries, a.triesOfName = newTries()
	a.huma = humago.New(a.mux, describe())
	a.addCommands()
	a.addOperations()
	a.addDevices()
	a.addGroups()
	a.addReadings()
	a.addLetters()
	a.addTokens()
	a.addAudit()
	a.addOverview()
	a.addSession()
	a.completeDescription()
	spec, err := json.Marshal(a.huma.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("describe api: %w", err)
	}
	a.spec = spec
	document, err := a.OpenAPI()
	if err != nil {
		return nil, err
	}
	a.mux.HandleFunc("GET /openapi.json", static("application/openapi+json", spec))
	a.mux.HandleFunc("GET /openapi.yaml", static("application/openapi+yaml", document))
	a.mux.HandleFunc("GET /schemas/{name}", a.schema)
	a.addHealth(o.Gatherer)
	return a, nil
}

// OpenAPI is the description of the API, OpenAPI 3.1 in YAML.
func (a *API) OpenAPI() ([]byte, error) {
	var document bytes.Buffer
	if err := yaml.Convert(&document, bytes.NewReader(a.spec)); err != nil {
		return nil, fmt.Errorf("describe api: %w", err)
	}
	return document.Bytes(), nil
}

func static(contentType string, body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(body) // a client that has gone away wants to hear no more
	}
}
