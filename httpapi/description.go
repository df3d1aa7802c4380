package httpapi

import (
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// apiVersion is that of the HTTP API: paths begin with its first number.
const apiVersion = "1.0.0"

// describe is what the OpenAPI description begins with. huma serves nothing of its own: its documentation page comes
// from a content network, and its $schema fields are not part of our shapes.
func describe() huma.Config {
	config := huma.DefaultConfig("Meterline", apiVersion)
	config.Formats = map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat}
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", ""
	config.CreateHooks = nil
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Info.Description = "Read meters: issue commands to devices, follow them, and ask for readings.\n\n" +
		"Errors are `application/problem+json` (RFC 9457) with a code. Whatever belongs to another tenant is 404. " +
		"Lists take `limit` and `cursor`; times are RFC 3339, UTC. Bodies are read strictly: unknown fields are refused. " +
		"The messages between gateways and devices are described at `/schemas/`."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "apiKey", In: "cookie", Name: sessionCookie, Description: "A session: POST /v1/session."},
		"token":   {Type: "http", Scheme: "bearer", BearerFormat: fleet.TokenPrefix + "…", Description: "An API token. Scopes: " + scopeList() + "."},
	}
	config.Tags = []*huma.Tag{
		{Name: "commands", Description: "What is asked of devices."},
		{Name: "operations", Description: "One command on one device."},
		{Name: "readings", Description: "What meters say."},
		{Name: "fleet", Description: "Devices, IPCs and groups."},
		{Name: "dead letters", Description: "What could not be understood, or was given up."},
		{Name: "tokens", Description: "Who may do what."},
		{Name: "session", Description: "Signing in and out, for people."},
		{Name: "overview", Description: "How things stand."},
		{Name: "audit", Description: "Who did what."},
		{Name: "health", Description: "For operators; needs no token."},
	}
	return config
}

func scopeList() string {
	names := make([]string, len(fleet.Scopes))
	for i, s := range fleet.Scopes {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// names are what types are called in the description where it is not their own name.
var names = map[reflect.Type]string{
	reflect.TypeFor[command.View]():          "Command",
	reflect.TypeFor[command.OperationView](): "Operation",
	reflect.TypeFor[command.Request]():       "CommandRequest",
	reflect.TypeFor[command.Selector]():      "Targets",
	reflect.TypeFor[fieldError]():            "FieldError",
	reflect.TypeFor[fleet.Info]():            "DeviceInfo",
	reflect.TypeFor[madeToken]():             "NewTokenWithSecret",
	reflect.TypeFor[fleet.Entry]():           "AuditEntry",
	reflect.TypeFor[fleet.EntryActor]():      "AuditActor",
	reflect.TypeFor[fleet.EntryObject]():     "AuditObject",
	reflect.TypeFor[signInBody]():            "SignIn",
	reflect.TypeFor[members]():               "Members",
	reflect.TypeFor[letterSelection]():       "LetterSelection",
}

func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if name, ok := names[t]; ok {
		return name
	}
	if strings.HasPrefix(t.Name(), "list[") {
		return schemaName(t.Field(0).Type.Elem(), hint) + "List"
	}
	return huma.DefaultSchemaNamer(t, hint)
}

// completeDescription says what Go types cannot.
func (a *API) completeDescription() {
	document := a.huma.OpenAPI()
	schemas := document.Components.Schemas.Map()

	route := &huma.Schema{Type: huma.TypeArray, Items: &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true},
		Description: "ordered hops from the IPC to the meter"}
	for _, name := range []string{"Device", "DeviceInfo", "NewDevice", "DevicePatch"} {
		schemas[name].Properties["route"] = route
	}
	object := &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
	schemas["Event"].Properties["data"] = object
	for _, name := range []string{"before", "after"} {
		schemas["AuditEntry"].Properties[name] = &huma.Schema{AnyOf: []*huma.Schema{object, {Type: "null"}}, Description: schemas["AuditEntry"].Properties[name].Description}
	}
	optional := func(schema, property, ref string) {
		schemas[schema].Properties[property] = &huma.Schema{AnyOf: []*huma.Schema{{Ref: "#/components/schemas/" + ref}, {Type: "null"}}}
	}
	optional("Operation", "error", "Failure")
	optional("Device", "presence", "Presence")
	optional("Overview", "backlog", "BacklogCount")

	enum(schemas["Operation"].Properties["state"], command.States)
	enum(schemas["Move"].Properties["state"], command.States)
	enum(schemas["Operation"].Properties["delivery"], []command.Delivery{command.NeverSent, command.MaybeSent, command.Acked})
	enum(schemas["Command"].Properties["status"], []command.Status{command.StatusRunning, command.StatusSucceeded,
		command.StatusCancelled, command.StatusExpired, command.StatusFailed, command.StatusPartial})
	enum(schemas["Reading"].Properties["quality"], []meterread.Quality{meterread.Valid, meterread.Estimated, meterread.Suspect, meterread.Invalid})
	for _, name := range []string{"Command", "CommandRequest"} {
		enum(schemas[name].Properties["kind"], command.Kinds)
		enum(schemas[name].Properties["mode"], []command.Mode{command.Realtime, command.Async})
	}
	enum(schemas["AuditEntry"].Properties["action"], fleet.Actions)
	enum(schemas["AuditActor"].Properties["kind"], []fleet.ActorKind{fleet.ByToken, fleet.ByUser, fleet.BySystem})
	enum(schemas["AuditObject"].Properties["kind"], fleet.ObjectKinds)
	enum(schemas["NewToken"].Properties["scopes"].Items, fleet.Scopes)
	enum(schemas["Token"].Properties["scopes"].Items, fleet.Scopes)
	schemas["CommandRequest"].Required = []string{"kind", "targets"}
	describeRequest(schemas["CommandRequest"].Properties)
	describeSelection(schemas["LetterSelection"])

	bodies := []string{"CommandRequest", "Targets", "NewDevice", "DevicePatch", "NewGroup", "GroupPatch", "Members", "NewToken", "LetterSelection", "SignIn"}
	for name, schema := range schemas {
		if !slices.Contains(bodies, name) && schema.AdditionalProperties == false {
			schema.AdditionalProperties = nil // fields may be added to answers
		}
	}
	a.describeStreams(document)
	a.describeHealth(document)
}

func enum[T ~string](s *huma.Schema, values []T) {
	s.Enum = nil
	for _, v := range values {
		s.Enum = append(s.Enum, string(v))
	}
}

// describeRequest says what each field of a command's request means.
func describeRequest(p map[string]*huma.Schema) {
	for name, text := range map[string]string{
		"mode":         "realtime: 30 s, priority 8, to be polled; async (default): 24 h, priority 5, waits for offline devices",
		"items":        "OBIS codes; required by meter.read",
		"params":       "free JSON for the endpoint",
		"timeout_s":    "deadline, counted from now or from not_before",
		"priority":     "0 to 9, 9 first",
		"not_before":   "not to be sent earlier",
		"max_age_s":    "a device whose newest readings of all items are younger is answered from stock",
		"max_attempts": "how often an operation is sent at most, 1 to 20; 5, or what the server is set to for the kind, when not given",
	} {
		p[name].Description = text
	}
}

// describeSelection says what each field of a selection of dead letters means.
func describeSelection(s *huma.Schema) {
	s.Required = nil
	for name, text := range map[string]string{
		"ids":   "up to 10000; what is not open, or not there, is passed over",
		"cause": "a code", "source": "uplink or operation",
		"from": "made then or later", "to": "made before",
		"all":   "instead of anything that narrows",
		"limit": "how many at most, 1 to 10000 (default), the oldest first",
	} {
		s.Properties[name].Description = text
	}
}

// describeStreams says what the routes answer whose answers huma does not see.
func (a *API) describeStreams(document *huma.OpenAPI) {
	answer := func(path string, types map[string]*huma.Schema) {
		r := &huma.Response{Description: "OK", Content: map[string]*huma.MediaType{}}
		for name, schema := range types {
			r.Content[name] = &huma.MediaType{Schema: schema}
		}
		document.Paths[path].Get.Responses["200"] = r
	}
	registry := document.Components.Schemas
	lines := &huma.Schema{Type: huma.TypeString}
	answer("/v1/commands/{id}/operations", map[string]*huma.Schema{
		jsonType: registry.Schema(reflect.TypeFor[list[command.OperationView]](), true, ""), csvType: lines})
	answer("/v1/readings", map[string]*huma.Schema{
		jsonType: registry.Schema(reflect.TypeFor[list[meterread.Reading]](), true, ""), csvType: lines})
	answer("/v1/commands/{id}/events", map[string]*huma.Schema{eventsType: lines})

	for path, method := range document.Paths {
		if post := method.Post; post != nil && (path == "/v1/commands" || path == "/v1/commands/{id}/retry") {
			post.Responses["200"] = &huma.Response{Description: "The command ended within the preferred wait",
				Content: post.Responses["202"].Content}
		}
	}
	document.Paths["/v1/devices/import"].Post.RequestBody = &huma.RequestBody{Required: true,
		Content: map[string]*huma.MediaType{csvType: {Schema: lines}, ndjsonType: {Schema: lines}}}
}

// describeHealth adds the calls that are not huma's.
func (a *API) describeHealth(document *huma.OpenAPI) {
	for _, h := range []struct{ path, id, summary, contentType string }{
		{"/livez", "live", "Whether the process lives", jsonType},
		{"/readyz", "ready", "Whether it can serve; each check by name", jsonType},
		{"/metrics", "metrics", "Prometheus metrics", "text/plain"},
		{"/schemas/{name}", "wireSchema", "JSON Schemas of the messages between gateways and devices", "application/schema+json"},
	} {
		op := &huma.Operation{Method: http.MethodGet, Path: h.path, OperationID: h.id, Summary: h.summary, Tags: []string{"health"},
			Responses: map[string]*huma.Response{"200": {Description: "OK", Content: map[string]*huma.MediaType{h.contentType: {}}}}}
		if h.id == "ready" {
			op.Responses["503"] = &huma.Response{Description: "A check failed", Content: map[string]*huma.MediaType{jsonType: {}}}
		}
		if h.id == "wireSchema" {
			files := make([]any, len(schemaFiles))
			for i, name := range schemaFiles {
				files[i] = name
			}
			op.Parameters = []*huma.Param{{Name: "name", In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString, Enum: files}}}
		}
		document.AddOperation(op)
	}
}
