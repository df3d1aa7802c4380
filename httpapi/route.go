package httpapi

import (
	"context"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"meterline/fleet"
)

// maxBody is how large a body may be, an import excepted.
const maxBody = 1 << 20

// The media types of bodies.
const (
	jsonType   = "application/json"
	patchType  = "application/merge-patch+json" // RFC 7396
	csvType    = "text/csv"
	ndjsonType = "application/x-ndjson"
	eventsType = "text/event-stream"
)

// route is one call of the API: what it needs, and what its description says.
type route struct {
	method, path string
	id           string // of the operation in the description
	tag          string
	summary      string
	text         string
	scopes       []fleet.Scope // one of them is needed
	open         bool          // anybody may make the call
	status       int           // of success; 0: 200 with a body, 204 without
	body         any           // a value of the type that the body is decoded into; nil: no body
	types        []string      // what the body may be labelled as; nil: JSON
	errors       []int         // besides those that every route can answer with
	wait         time.Duration // how much longer than an ordinary request it may take
	streams      bool          // takes or answers as long as parts keep coming, and sets its own deadlines
}

// RawJSON is a part of the input of routes that take JSON. The handler decodes it: see decode.
type RawJSON struct {
	RawBody []byte
}

// add registers a route and its handler. The handler is called with whoever asks, who has been found to have one of the
// scopes; its error is classified as problem.go says.
func add[I, O any](a *API, r route, handle func(ctx context.Context, by fleet.Token, in *I) (*O, error)) {
	a.routes[r.method+" "+r.path] = r
	op := r.operation()
	op.Middlewares = huma.Middlewares{a.admit(r)}
	huma.Register(a.huma, op, func(ctx context.Context, in *I) (*O, error) {
		c := callOf(ctx)
		if r.body != nil {
			// The deadline was for the body. Left alone it would end the request, when it takes longer than that.
			_ = c.control.SetReadDeadline(time.Time{})
		}
		out, err := handle(ctx, c.by, in)
		if err != nil {
			return nil, a.problem(c, err)
		}
		return out, nil
	})
	if r.body != nil {
		r.describeBody(a, op.RequestBody)
	}
}

// admit lets those pass who may make the call.
func (a *API) admit(r route) func(huma.Context, func(huma.Context)) {
	return func(h huma.Context, next func(huma.Context)) {
		c := callOf(h.Context())
		if err := a.check(c, r); err != nil {
			a.writeProblem(c, a.problem(c, err))
			return
		}
		if r.body != nil {
			// A body that is announced as too large is not read at all.
			if c.r.ContentLength > maxBody {
				a.writeProblem(c, tooLarge(maxBody))
				return
			}
			_ = c.control.SetReadDeadline(time.Now().Add(a.times.body))
		}
		next(h)
	}
}

func (a *API) check(c *call, r route) error {
	if !r.open {
		if err := a.identify(c, r); err != nil {
			return err
		}
	}
	if p := checkQuery(c.r.URL); p != nil {
		return p
	}
	if (r.body != nil || r.types != nil) && c.r.ContentLength != 0 {
		return checkType(c.r.Header.Get("Content-Type"), r.mediaTypes())
	}
	return nil
}

// identify finds out who makes the call, and whether it may.
func (a *API) identify(c *call, r route) error {
	by, err := a.authenticate(c)
	if err != nil {
		return err
	}
	c.by = by
	if err := a.limits.take(by.ID, time.Now()); err != nil {
		return err
	}
	return allowed(by, r.scopes)
}

func (r route) mediaTypes() []string {
	if r.types != nil {
		return r.types
	}
	return []string{jsonType}
}

// checkType complains about a body that is labelled as something else than the route takes, or not as UTF-8. One that
// is not labelled at all is taken for the first of the types.
func checkType(label string, types []string) error {
	if label == "" {
		return nil
	}
	got, params, err := mime.ParseMediaType(label)
	charset := params["charset"]
	if err != nil || !slices.Contains(types, got) || (charset != "" && !strings.EqualFold(charset, "utf-8")) {
		return newProblem(http.StatusUnsupportedMediaType, "UNSUPPORTED_MEDIA_TYPE", "the body must be "+strings.Join(types, " or ")+" in UTF-8")
	}
	return nil
}

// operation is the route as huma knows it.
func (r route) operation() huma.Operation {
	text := r.text
	if len(r.scopes) > 0 {
		text = strings.TrimSpace(text + "\n\nNeeds scope " + scopeNames(r.scopes) + ".")
	}
	op := huma.Operation{
		Method: r.method, Path: r.path, OperationID: r.id, Summary: r.summary, Description: text, Tags: []string{r.tag},
		DefaultStatus: r.status, SkipValidateBody: true, RejectUnknownQueryParameters: true,
		Security: []map[string][]string{{"token": {}}, {"session": {}}},
		Errors:   append([]int{http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusServiceUnavailable}, r.errors...),
	}
	if strings.Contains(r.path, "{") {
		op.Errors = append(op.Errors, http.StatusNotFound)
	}
	if r.body != nil {
		op.Errors = append(op.Errors, http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
			http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity)
		op.RequestBody = &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{}}
		op.MaxBodyBytes = maxBody + 1 // huma refuses what is as long as its bound
	}
	if r.open {
		op.Security = []map[string][]string{}
	}
	slices.Sort(op.Errors)
	op.Errors = slices.Compact(op.Errors)
	return op
}

// describeBody says in the description what the body is, which huma takes for bytes.
func (r route) describeBody(a *API, b *huma.RequestBody) {
	schema := a.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeOf(r.body), true, r.id)
	clear(b.Content)
	for _, t := range r.mediaTypes() {
		b.Content[t] = &huma.MediaType{Schema: schema}
	}
}
