package httpapi

import (
	"embed"
	"net/http"
	"slices"
)

// schemas are the JSON Schemas (2020-12) of the messages between gateways and devices.
//
//go:embed schemas/*.json
var schemas embed.FS

// schemaFiles are what /schemas/ serves.
var schemaFiles = []string{"down-command.json", "up-ack.json", "up-result.json", "up-readings.json", "up-event.json"}

func (a *API) schema(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	text, err := schemas.ReadFile("schemas/" + name)
	if err != nil || !slices.Contains(schemaFiles, name) {
		a.writeProblem(callOf(r.Context()), newProblem(http.StatusNotFound, codeNotFound, "there is no such schema"))
		return
	}
	static("application/schema+json", text)(w, r)
}
