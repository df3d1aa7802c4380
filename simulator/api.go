package simulator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// API is a client of the HTTP API, for what a simulator needs of it. Safe for concurrent use.
type API struct {
	base   string
	token  string
	client *http.Client
}

// NewAPI makes a client of the API at base, such as http://127.0.0.1:8080.
func NewAPI(base, token string) *API {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 64
	return &API{base: strings.TrimRight(base, "/"), token: token, client: &http.Client{Transport: transport}}
}

// Close drops idle connections.
func (a *API) Close() { a.client.CloseIdleConnections() }

// Problem is an answer other than 2xx (RFC 9457).
type Problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Pointer string `json:"pointer"`
		Detail  string `json:"detail"`
	} `json:"errors"`
}

func (p *Problem) Error() string {
	text := strconv.Itoa(p.Status)
	for _, part := range []string{p.Code, p.Title, p.Detail} {
		if part != "" {
			text += " " + part
		}
	}
	if len(p.Errors) > 0 {
		text += " (" + p.Errors[0].Pointer + ": " + p.Errors[0].Detail + ")"
	}
	return text
}

// Registration is one line of POST /v1/devices/import.
type Registration struct {
	ID         meterread.DeviceID `json:"id"`
	Name       string             `json:"name,omitempty"`
	Kind       string             `json:"kind"` // direct, ipc or meter
	EndpointID meterread.DeviceID `json:"endpoint_id,omitempty"`
	Route      json.RawMessage    `json:"route,omitempty"`
	Tags       map[string]string  `json:"tags,omitempty"`
	Groups     []string           `json:"groups,omitempty"`
	Enabled    bool               `json:"enabled"`
	Secret     string             `json:"secret,omitempty"` // of a direct device or an IPC: what it signs in with
}

// Registrations lists what has to be imported for sites to be known, IPCs before their meters.
func Registrations(sites []Site, groups []string, tags map[string]string) []Registration {
	var all []Registration
	for _, s := range sites {
		all = append(all, Registration{ID: s.ID, Name: string(s.ID), Kind: string(s.Kind), Tags: tags, Groups: groups,
			Enabled: true, Secret: s.Credentials.Password})
		for _, m := range s.Meters {
			all = append(all, Registration{ID: m.ID, Name: string(m.ID), Kind: "meter", EndpointID: s.ID, Route: m.Route,
				Tags: tags, Groups: groups, Enabled: true})
		}
	}
	return all
}

// Import creates or updates devices.
func (a *API) Import(ctx context.Context, devices []Registration) error {
	var body bytes.Buffer
	lines := json.NewEncoder(&body)
	for _, d := range devices {
		if err := lines.Encode(d); err != nil {
			return fmt.Errorf("import devices: %w", err)
		}
	}
	header := http.Header{"Content-Type": {"application/x-ndjson"}}
	if err := a.do(ctx, http.MethodPost, "/v1/devices/import", header, body.Bytes(), nil); err != nil {
		return fmt.Errorf("import devices: %w", err)
	}
	return nil
}

// CreateGroup makes sure that a group exists.
func (a *API) CreateGroup(ctx context.Context, name, description string) error {
	err := a.post(ctx, "/v1/groups", map[string]string{"name": name, "description": description}, nil)
	if p := (*Problem)(nil); errors.As(err, &p) && p.Status == http.StatusConflict {
		return nil
	}
	if err != nil {
		return fmt.Errorf("create group: %w", err)
	}
	return nil
}

// Order is the body of POST /v1/commands.
type Order struct {
	Kind     command.Kind     `json:"kind"`
	Mode     command.Mode     `json:"mode"`
	Targets  command.Selector `json:"targets"`
	Items    []meterread.Item `json:"items,omitempty"`
	TimeoutS float64          `json:"timeout_s,omitempty"`
}

// CommandView is what GET /v1/commands/{id} says.
type CommandView struct {
	ID         meterread.CommandID `json:"id"`
	Status     string              `json:"status"`
	Counts     command.Counts      `json:"counts"`
	Errors     map[string]int      `json:"errors"`
	Operations []OperationView     `json:"operations"` // up to 1000
}

// OperationView is one operation of a command.
type OperationView struct {
	DeviceID meterread.DeviceID `json:"device_id"`
	State    string             `json:"state"`
	Readings []ReadingView      `json:"readings"`
	Error    *struct {
		Code string `json:"code"`
	} `json:"error"`
}

// ReadingView is one stored reading.
type ReadingView struct {
	DeviceID   meterread.DeviceID `json:"device_id"`
	Item       meterread.Item     `json:"item"`
	Value      string             `json:"value"`
	ReadAt     time.Time          `json:"read_at"`
	ReceivedAt time.Time          `json:"received_at"`
}

// Issue posts a command. The idempotency key makes it safe to post it again.
func (a *API) Issue(ctx context.Context, o Order, idempotencyKey string) (CommandView, error) {
	var c CommandView
	body, err := json.Marshal(o)
	if err != nil {
		return c, fmt.Errorf("issue command: %w", err)
	}
	header := http.Header{"Content-Type": {"application/json"}, "Idempotency-Key": {idempotencyKey}}
	if err := a.do(ctx, http.MethodPost, "/v1/commands", header, body, &c); err != nil {
		return c, fmt.Errorf("issue command: %w", err)
	}
	return c, nil
}

// Command polls a command.
func (a *API) Command(ctx context.Context, id meterread.CommandID) (CommandView, error) {
	var c CommandView
	if err := a.do(ctx, http.MethodGet, "/v1/commands/"+url.PathEscape(string(id)), nil, nil, &c); err != nil {
		return c, fmt.Errorf("poll command: %w", err)
	}
	return c, nil
}

// Operations gives all operations of a command, page by page.
func (a *API) Operations(ctx context.Context, id meterread.CommandID, each func(OperationView)) error {
	path := "/v1/commands/" + url.PathEscape(string(id)) + "/operations"
	if err := pages(ctx, a, path, url.Values{}, each); err != nil {
		return fmt.Errorf("list operations: %w", err)
	}
	return nil
}

// Readings gives all stored readings of a device with from <= read_at < to, page by page.
func (a *API) Readings(ctx context.Context, device meterread.DeviceID, from, to time.Time, each func(ReadingView)) error {
	query := url.Values{"device_id": {string(device)}, "from": {from.UTC().Format(time.RFC3339Nano)},
		"to": {to.UTC().Format(time.RFC3339Nano)}}
	if err := pages(ctx, a, "/v1/readings", query, each); err != nil {
		return fmt.Errorf("list readings: %w", err)
	}
	return nil
}

func pages[T any](ctx context.Context, a *API, path string, query url.Values, each func(T)) error {
	query.Set("limit", "1000")
	for {
		var page struct {
			Items      []T     `json:"items"`
			NextCursor *string `json:"next_cursor"`
		}
		if err := a.do(ctx, http.MethodGet, path+"?"+query.Encode(), nil, nil, &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			each(item)
		}
		if page.NextCursor == nil || *page.NextCursor == "" {
			return nil
		}
		query.Set("cursor", *page.NextCursor)
	}
}

func (a *API) post(ctx context.Context, path string, in, out any) error {
	var body []byte
	header := http.Header{}
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
		header.Set("Content-Type", "application/json")
	}
	return a.do(ctx, http.MethodPost, path, header, body, out)
}

// requestTime bounds one request; an import of a large fleet takes a while.
const requestTime = 2 * time.Minute

// do sends a request until it is answered with something other than "later" (429, 503 with Retry-After).
func (a *API) do(ctx context.Context, method, path string, header http.Header, body []byte, out any) error {
	for {
		later, err := a.once(ctx, method, path, header, body, out)
		if later == 0 {
			return err
		}
		timer := time.NewTimer(later)
		select {
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		case <-timer.C:
		}
	}
}

func (a *API) once(ctx context.Context, method, path string, header http.Header, body []byte, out any) (later time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, a.base+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for key, values := range header {
		request.Header[key] = values
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	response, err := a.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode >= 300 {
		return retryAfter(response), readProblem(response)
	}
	if out == nil {
		_, err = io.Copy(io.Discard, response.Body) // read to the end, so that the connection can be used again
		return 0, err
	}
	if err := json.NewDecoder(response.Body).Decode(out); err != nil {
		return 0, fmt.Errorf("decode answer: %w", err)
	}
	_, _ = io.Copy(io.Discard, response.Body)
	return 0, nil
}

func readProblem(response *http.Response) *Problem {
	p := &Problem{}
	body, _ := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if json.Unmarshal(body, p) != nil {
		p.Detail = strings.TrimSpace(string(body[:min(len(body), 200)]))
	}
	p.Status = response.StatusCode
	return p
}

func retryAfter(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil || seconds < 0 {
		return 0
	}
	return max(time.Duration(seconds)*time.Second, 100*time.Millisecond)
}
