package main

import (
	"errors"
	"fmt"
	"net"

	"meterline/cmd/launch"
)

// config is everything a gateway is told.
type config struct {
	launch.Edge
	launch.Uplink
	launch.Logging
	launch.Debugging

	DatabaseURL string `name:"database-url" default:"postgres://127.0.0.1:5432/meterline?sslmode=disable" placeholder:"URL" help:"PostgreSQL: postgres://…"`
	ID          string `name:"id" default:"gateway-1" help:"Unique among the gateways of an installation, the same after a restart."`
	Advertise   string `name:"advertise" placeholder:"HOST:PORT" help:"Where backends reach this gateway by MQTT; default: the address of --mqtt."`
	HTTP        string `name:"http" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Where to answer for health and metrics; port 0 takes a free one."`
}

// Validate is called by kong. It joins all complaints.
func (c *config) Validate() error {
	errs := []error{c.Edge.Validate(), c.Uplink.Validate(), launch.CheckDatabaseURL(c.DatabaseURL), launch.CheckAddress("http", c.HTTP), c.Debugging.Check(c.HTTP), launch.CheckID(c.ID)}
	if c.Advertise != "" {
		if _, _, err := net.SplitHostPort(c.Advertise); err != nil {
			errs = append(errs, fmt.Errorf("--advertise: %w", err))
		}
	}
	return errors.Join(errs...)
}
