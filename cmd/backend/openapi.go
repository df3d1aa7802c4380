package main

import (
	"meterline/fleet"
	"meterline/httpapi"

	"github.com/prometheus/client_golang/prometheus"
)

type openapiCmd struct{}

// Run prints the description that a running backend serves at /openapi.yaml.
func (openapiCmd) Run(p *program) error {
	r := prometheus.NewRegistry()
	api, err := httpapi.New(httpapi.Options{Fleet: fleet.NewService(fleet.Options{}), Metrics: r, Gatherer: r})
	if err != nil {
		return err
	}
	doc, err := api.OpenAPI()
	if err != nil {
		return err
	}
	_, err = p.stdout.Write(doc)
	return err
}
