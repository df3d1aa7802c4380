//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"sync"
	"time"

	"meterline/simulator"
)

// reader reads meters in real time at a steady rate, whether the answers come or not, and waits for each in the request.
type reader struct {
	url, token string
	meters     []simulator.Site
	every      time.Duration
	client     *http.Client
	next       int
}

func newReader(c config, r *rig, meters []simulator.Site) *reader {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	every := time.Duration(math.MaxInt64)
	if c.rate > 0 {
		every = time.Duration(float64(time.Second) / c.rate)
	}
	return &reader{url: "http://" + r.http + "/v1/commands", token: r.token, meters: meters, every: every, client: &http.Client{Transport: transport, Timeout: time.Minute}}
}

// seen is what came of the reads of one phase.
type seen struct {
	mu     sync.Mutex
	took   []time.Duration
	failed map[string]int
}

// during reads until stop is closed, and waits for what was asked.
func (r *reader) during(ctx context.Context, stop <-chan struct{}) *seen {
	s := &seen{failed: map[string]int{}}
	var asked sync.WaitGroup
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			asked.Wait()
			return s
		case <-ctx.Done():
			asked.Wait()
			return s
		case <-tick.C:
		}
		meter := r.meters[r.next%len(r.meters)].ID
		r.next++
		asked.Go(func() {
			began := time.Now()
			status, err := r.read(ctx, string(meter))
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				status = "error"
			}
			if status != "succeeded" {
				s.failed[status]++
			}
			s.took = append(s.took, time.Since(began))
		})
	}
}

func (r *reader) read(ctx context.Context, meter string) (status string, err error) {
	body := fmt.Sprintf(`{"kind":"meter.read","mode":"realtime","targets":{"device_ids":[%q]},"items":["1-0:1.8.0"]}`, meter)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewBufferString(body))
	if err != nil {
		return "", err
	}
	request.Header.Set("Authorization", "Bearer "+r.token)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Prefer", "wait=40")
	a, err := r.client.Do(request)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	var v struct {
		Status string `json:"status"`
	}
	if err := json.NewDecoder(a.Body).Decode(&v); err != nil {
		return "", err
	}
	if a.StatusCode != http.StatusOK {
		v.Status = fmt.Sprintf("%s, answered %d", v.Status, a.StatusCode)
	}
	return v.Status, nil
}
