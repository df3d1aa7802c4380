package launch

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"meterline/command"
	"meterline/fleet"
	"meterline/mqtt/broker"
	"meterline/mqtt/door"
	"meterline/store"
)

// Edge are the flags of an MQTT edge node, alone or in one process with all the rest.
type Edge struct {
	MQTT       string `name:"mqtt" default:"127.0.0.1:1883" placeholder:"HOST:PORT" help:"Where to listen for MQTT over TCP; port 0 takes a free one."`
	MQTTTLS    string `name:"mqtt-tls" placeholder:"HOST:PORT" help:"Where to listen for MQTT over TLS."`
	MQTTWS     string `name:"mqtt-ws" placeholder:"HOST:PORT" help:"Where to listen for MQTT over WebSocket (subprotocol mqtt)."`
	MQTTWSS    string `name:"mqtt-wss" placeholder:"HOST:PORT" help:"Where to listen for MQTT over WebSocket over TLS."`
	TLSCert    string `name:"tls-cert" placeholder:"FILE" help:"Certificate chain for --mqtt-tls and --mqtt-wss, PEM. The TLS files are read again when they change."`
	TLSKey     string `name:"tls-key" placeholder:"FILE" help:"Its key, PEM."`
	ClientCA   string `name:"tls-client-ca" placeholder:"FILE" help:"CA certificates, PEM: a device with a certificate from them that names it needs no password."`
	ClientAuth string `name:"tls-client-auth" default:"require" enum:"require,optional" help:"Whether clients must show a certificate when there is --tls-client-ca: require or optional."`
	Anonymous  string `name:"anonymous" default:"none" enum:"none,mqtt,mqtt:admin" help:"What clients without credentials may do: none, mqtt or mqtt:admin. For tests."`
	MaxPayload int    `name:"max-payload" default:"262144" help:"Bytes of one publish."`

	ProxyFrom            []string      `name:"proxy-from" placeholder:"CIDR,..." help:"Networks of load balancers: connections from there must begin with a PROXY header, version 2."`
	Unadmitted           int           `name:"max-unadmitted" default:"16384" help:"Connections that have not been admitted yet, in all; half the file descriptors at most."`
	UnadmittedPerAddress int           `name:"max-unadmitted-per-address" default:"256" help:"Such connections of one address before those that keep the gateway waiting are closed."`
	PublishRate          float64       `name:"publish-rate" default:"0" help:"Messages per second of one endpoint; one that sends more is slowed down. 0: no limit."`
	PublishBytes         int           `name:"publish-bytes" default:"0" help:"Bytes per second that one endpoint publishes; one that sends more is slowed down. 0: no limit."`
	BanAfter             int           `name:"ban-after" default:"10" help:"Wrong secrets in a minute for a user name from an address, after which that name is refused from there; for three times as many names the address is. 0: never."`
	BanFor               time.Duration `name:"ban-for" default:"5m" help:"The longest ban; the first lasts 30 s, each further one twice as long."`
	FlapLimit            int           `name:"flap-limit" default:"15" help:"Connects of an endpoint in a minute; beyond it is held off for 1 to 5 minutes. 0: never."`

	opened *door.Certificates // by certificates
}

// heldMost is how long one publish may hold its endpoint: beyond, its client would miss the answer to its PINGREQ.
const heldMost = 10 // seconds

// Validate is called by kong.
func (e *Edge) Validate() error {
	err := CheckAddress("mqtt", e.MQTT)
	for _, l := range []struct{ flag, address string }{{"mqtt-tls", e.MQTTTLS}, {"mqtt-ws", e.MQTTWS}, {"mqtt-wss", e.MQTTWSS}} {
		if l.address != "" {
			err = errors.Join(err, CheckAddress(l.flag, l.address))
		}
	}
	if err != nil {
		return err
	}
	if err := e.checkTLS(); err != nil {
		return err
	}
	if e.MaxPayload < 1024 || e.MaxPayload > 16<<20 {
		return errors.New("--max-payload: must be 1024 to 16777216")
	}
	return errors.Join(e.checkLimits(), e.checkBans())
}

func (e Edge) checkBans() error {
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

func (e *Edge) checkTLS() error {
	files := e.TLSCert != "" && e.TLSKey != ""
	switch {
	case e.MQTTTLS != "" && !files:
		return errors.New("--mqtt-tls: needs --tls-cert and --tls-key")
	case e.MQTTWSS != "" && !files:
		return errors.New("--mqtt-wss: needs --tls-cert and --tls-key")
	case e.ClientCA != "" && !e.tls():
		return errors.New("--tls-client-ca: needs --mqtt-tls or --mqtt-wss")
	case (e.TLSCert != "" || e.TLSKey != "") && !e.tls(): // whoever gives them believes that there is TLS
		return errors.New("--tls-cert: needs --mqtt-tls or --mqtt-wss")
	}
	_, err := e.certificates()
	return err
}

func (e Edge) checkLimits() error {
	switch {
	case e.Unadmitted < 1 || e.Unadmitted > 1<<20:
		return errors.New("--max-unadmitted: must be 1 to 1048576")
	case e.UnadmittedPerAddress < 1 || e.UnadmittedPerAddress > 1<<20:
		return errors.New("--max-unadmitted-per-address: must be 1 to 1048576")
	case e.PublishRate != 0 && !(e.PublishRate >= 1./heldMost && e.PublishRate <= 1e6):
		return fmt.Errorf("--publish-rate: must be 0, or %g to 1000000", 1./heldMost)
	case e.PublishBytes != 0 && e.PublishBytes < (e.MaxPayload+heldMost-1)/heldMost:
		return fmt.Errorf("--publish-bytes: must be 0, or at least a tenth of --max-payload, %d", (e.MaxPayload+heldMost-1)/heldMost)
	}
	_, err := e.proxies()
	return err
}

// tls says whether there is a listener for TLS.
func (e Edge) tls() bool { return e.MQTTTLS != "" || e.MQTTWSS != "" }

// proxies parses --proxy-from. A single address is a network of its own.
func (e Edge) proxies() (networks []netip.Prefix, err error) {
	for _, text := range e.ProxyFrom {
		network, err := netip.ParsePrefix(text)
		if address, alone := netip.ParseAddr(text); alone == nil {
			network, err = address.Prefix(address.BitLen())
		}
		if err != nil {
			return nil, fmt.Errorf("--proxy-from: %q is neither a network nor an address", text)
		}
		networks = append(networks, network.Masked())
	}
	return networks, nil
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
func (e *Edge) Broker(ctx context.Context, p EdgePorts) (*broker.Broker, error) {
	certificates, err := e.certificates()
	if err != nil {
		return nil, err
	}
	proxies, err := e.proxies()
	if err != nil {
		return nil, err
	}
	revocations, err := p.DB.Revocations(ctx)
	if err != nil {
		return nil, err
	}
	return broker.New(broker.Options{
		Gateway: p.Gateway, Listeners: e.listeners(certificates), Certificates: certificates, Proxies: proxies,
		Log: p.Log, Credentials: p.DB, Sessions: p.Sessions, Tokens: tokens{p.DB},
		Pepper: p.Settings.Pepper, BackendSecret: p.Settings.BackendSecret, Anonymous: broker.Anonymous(e.Anonymous),
		Partitions: p.Settings.Partitions, MaxPayload: e.MaxPayload, Logger: p.Logger, Registerer: p.Registerer,
		Unadmitted: e.Unadmitted, UnadmittedPerAddress: e.UnadmittedPerAddress,
		Revocations: revocations, BanAfter: e.BanAfter, BanFor: e.BanFor, FlapLimit: e.FlapLimit,
		PublishRate: e.PublishRate, PublishBytes: e.PublishBytes,
	})
}

// Bound says for the log where the broker listens: by the name of each listener its address.
func Bound(b *broker.Broker) (args []any) {
	addresses := b.Addrs()
	for _, name := range slices.Sorted(maps.Keys(addresses)) {
		args = append(args, name, addresses[name])
	}
	return args
}

// certificates is nil without a listener for TLS. It opens the files once: whoever validates has them already.
func (e *Edge) certificates() (*door.Certificates, error) {
	if !e.tls() || e.opened != nil {
		return e.opened, nil
	}
	c, err := door.OpenCertificates(door.TLSFiles{
		Cert: e.TLSCert, Key: e.TLSKey, ClientCA: e.ClientCA, ClientOptional: e.ClientAuth == "optional",
	})
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key, --tls-client-ca: %w", err)
	}
	e.opened = c
	return c, nil
}

func (e Edge) listeners(c *door.Certificates) []door.Listen {
	listen := []door.Listen{{Name: "mqtt", Address: e.MQTT}}
	if e.MQTTTLS != "" {
		listen = append(listen, door.Listen{Name: "mqtt-tls", Address: e.MQTTTLS, TLS: c.Config()})
	}
	if e.MQTTWS != "" {
		listen = append(listen, door.Listen{Name: "mqtt-ws", Address: e.MQTTWS, WebSocket: true})
	}
	if e.MQTTWSS != "" {
		listen = append(listen, door.Listen{Name: "mqtt-wss", Address: e.MQTTWSS, WebSocket: true, TLS: c.Config()})
	}
	return listen
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
