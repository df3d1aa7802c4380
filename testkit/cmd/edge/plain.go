//go:build linux

package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// plainMode is the argument that makes this program a plain mochi broker: MQTT address, address of its metrics.
const plainMode = "plain-mochi"

// servePlain runs mochi as its own examples do, with its defaults and everything allowed, until it is killed. Only its
// log is turned off.
func servePlain(args []string, stderr io.Writer) int {
	if len(args) != 2 {
		fmt.Fprintln(stderr, "usage: edge", plainMode, "MQTT-ADDRESS HTTP-ADDRESS")
		return 2
	}
	server := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	err := server.AddHook(new(auth.AllowHook), nil)
	if err == nil {
		err = server.AddListener(listeners.NewTCP(listeners.Config{ID: "plain", Address: args[0]}))
	}
	if err == nil {
		err = server.Serve()
	}
	if err == nil {
		own := prometheus.NewRegistry()
		own.MustRegister(collectors.NewGoCollector())
		err = http.ListenAndServe(args[1], promhttp.HandlerFor(own, promhttp.HandlerOpts{}))
	}
	fmt.Fprintln(stderr, "edge:", err)
	return 1
}
