package launch

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt/broker"
	"meterline/store"
)

// Edge are the flags of an MQTT edge node, alone or in one process with all the rest.
type Edge struct {
	MQTT       string `name:"mqtt" default:"127.0.0.1:1883" placeholder:"HOST:PORT" help:"Where to listen for MQTT over TCP; port 0 takes a free one."`
	MQTTTLS    string `name:"mqtt-tls" placeholder:"HOST:PORT" help:"Where to listen for MQTT over TLS."`
	MQTTWS     string `name:"mqtt-ws" placeholder:"HOST:PORT" help:"Where to listen for MQTT over WebSocket (subprotocol mqtt)."`
	TLSCert    string `name:"tls-cert" placeholder:"FILE" help:"Certificate chain for --mqtt-tls, PEM."`
	TLSKey     string `name:"tls-key" placeholder:"FILE" help:"Its key, PEM."`
	Anonymous  string `name:"anonymous" default:"none" enum:"none,mqtt,mqtt:admin" help:"What clients without credentials may do: none, mqtt or mqtt:admin. For tests."`
	MaxPayload int    `name:"max-payload" default:"262144" help:"Bytes of one publish."`

	BanAfter  int           `name:"ban-after" default:"10" help:"Wrong secrets in a minute for a user name from an address, after which that name is refused from there; for three times as many names the address is. 0: never."`
	BanFor    time.Duration `name:"ban-for" default:"5m" help:"The longest ban; the first lasts 30 s, each further one twice as long."`
	FlapLimit int           `name:"flap-limit" default:"15" help:"Connects of an endpoint in a minute; beyond it is held off for 1 to 5 minutes. 0: never."`
}

// Validate is called by kong.
func (e Edge) Validate() error {
	err := CheckAddress("mqtt", e.MQTT)
	if e.MQTTTLS != "" {
		err = errors.Join(err, CheckAddress("mqtt-tls", e.MQTTTLS))
	}
	if e.MQTTWS != "" {
		err = errors.Join(err, CheckAddress("mqtt-ws", e.MQTTWS))
	}
	if err != nil {
		return err
	}
	if e.MQTTTLS != "" && (e.TLSCert == "" || e.TLSKey == "") {
		return errors.New("--mqtt-tls: needs --tls-cert and --tls-key")
	}
	if e.MaxPayload < 1024 || e.MaxPayload > 16<<20 {
		return errors.New("--max-payload: must be 1024 to 16777216")
	}
	switch {
	case e.BanAfter < 0:
		return errors.New("--ban-after: must not be negative")
	case e.BanFor < 0 || e.BanFor > 24*time.Hour:
		return errors.New("--ban-for: must be at most 24h")
	case e.FlapLimit < 0:
		return errors.New("--flap-limit: must not be negative")
	}
	return nil
}

// EdgePorts is what an edge node stands on.
type EdgePorts struct {
	Gateway    command.Gateway
	DB         *store.DB
	Settings   store.Settings
	Log        broker.Log
	Sessions   broker.Sessions
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Broker makes the edge node. From now on its addresses are bound, and what is taken back from now on is known to it.
func (e Edge) Broker(ctx context.Context, p EdgePorts) (*broker.Broker, error) {
	listen := []broker.Listen{{Name: "mqtt", Address: e.MQTT}}
	if e.MQTTTLS != "" {
		cert, err := tls.LoadX509KeyPair(e.TLSCert, e.TLSKey)
		if err != nil {
			return nil, fmt.Errorf("--tls-cert: %w", err)
		}
		listen = append(listen, broker.Listen{Name: "mqtt-tls", Address: e.MQTTTLS,
			TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}})
	}
	if e.MQTTWS != "" {
		listen = append(listen, broker.Listen{Name: "mqtt-ws", Address: e.MQTTWS, WebSocket: true})
	}
	revocations, err := p.DB.Revocations(ctx)
	if err != nil {
		return nil, err
	}
	return broker.New(broker.Options{
		Gateway: p.Gateway, Listeners: listen, Log: p.Log, Credentials: p.DB, Sessions: p.Sessions, Tokens: tokens{p.DB}, Revocations: revocations,
		BanAfter: e.BanAfter, BanFor: e.BanFor, FlapLimit: e.FlapLimit,
		Pepper: p.Settings.Pepper, BackendSecret: p.Settings.BackendSecret, Anonymous: broker.Anonymous(e.Anonymous),
		Partitions: p.Settings.Partitions, MaxPayload: e.MaxPayload, Logger: p.Logger, Registerer: p.Registerer,
	})
}

// Incarnation makes a name for one start of a gateway.
func Incarnation() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// tokens says it in the broker's words when there is no such token.
type tokens struct{ db *store.DB }

// TokenBySecret finds a token that is neither revoked nor expired.
func (t tokens) TokenBySecret(ctx context.Context, secret string) (fleet.Token, error) {
	token, err := t.db.TokenBySecret(ctx, secret)
	if errors.Is(err, fleet.ErrNotFound) {
		return token, broker.ErrUnknownToken
	}
	return token, err
}
