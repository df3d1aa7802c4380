package httpapi

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// checkTime is how long the checks of /readyz may take together.
const checkTime = 2 * time.Second

// readiness is what /readyz answers. What exactly is wrong with a check is in the logs: the call needs no token.
type readiness struct {
	Status string            `json:"status"`           // ok or unavailable
	Checks map[string]string `json:"checks"`           // the same, for each
	Alarms []string          `json:"alarms,omitempty"` // what will be wrong soon
}

const (
	readyOK          = "ok"
	readyUnavailable = "unavailable"
)

// ready answers 200 when every check passes and the server is not going away, else 503.
func (a *API) ready(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), checkTime)
	defer stop()
	answer := readiness{Status: readyOK, Checks: map[string]string{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	for name, check := range a.checks {
		all.Go(func() {
			err := check(ctx)
			mu.Lock()
			defer mu.Unlock()
			answer.Checks[name] = readyOK
			if err != nil {
				a.logger.Warn("not ready", "check", name, "error", err)
				answer.Checks[name], answer.Status = readyUnavailable, readyUnavailable
			}
		})
	}
	all.Wait()
	if draining(r.Context()) {
		answer.Status = readyUnavailable
	}
	if a.alarms != nil {
		answer.Alarms = a.alarms()
	}
	w.Header().Set("Content-Type", jsonType)
	if answer.Status != readyOK {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // a prober that has gone away wants to hear no more
}
