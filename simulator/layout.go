package simulator

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"meterline/meterread"
)

// Layout describes a fleet by numbers.
type Layout struct {
	Prefix       string // of all device ids, 1 to 40 characters
	IPCs         int
	MetersPerIPC int
	BusesPerIPC  int
	Direct       int
	Key          string // secrets are derived from it and the endpoint's id: the same key gives the same secrets
}

// Sites lays the fleet out: PREFIX-ipc-0001 with meters PREFIX-ipc-0001-m001 on buses com1, com2, …, and direct meters
// PREFIX-direct-00001. The same layout always gives the same sites.
func (l Layout) Sites() []Site {
	sites := make([]Site, 0, l.IPCs+l.Direct)
	for i := range l.IPCs {
		ipc := l.site(fmt.Sprintf("%s-ipc-%04d", l.Prefix, i+1), KindIPC)
		for m := range l.MetersPerIPC {
			ipc.Meters = append(ipc.Meters, SiteMeter{
				ID:    meterread.DeviceID(fmt.Sprintf("%s-m%03d", ipc.ID, m+1)),
				Route: Route(m%max(1, l.BusesPerIPC)+1, fmt.Sprintf("%06d%06d", i+1, m+1)),
			})
		}
		sites = append(sites, ipc)
	}
	for i := range l.Direct {
		sites = append(sites, l.site(fmt.Sprintf("%s-direct-%05d", l.Prefix, i+1), KindDirect))
	}
	return sites
}

func (l Layout) site(id string, kind Kind) Site {
	mac := hmac.New(sha256.New, []byte(l.Key))
	_, _ = mac.Write([]byte("meterline simulator " + id))
	return Site{ID: meterread.DeviceID(id), Kind: kind, Credentials: Credentials{
		ClientID: id, Username: id, Password: base64.RawURLEncoding.EncodeToString(mac.Sum(nil)),
	}}
}

// Route is that of a meter with a 12-digit address on serial port com1, com2, … of its IPC, at 2400 baud, speaking
// DL/T 645-2007.
func Route(port int, address string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`[{"bus":"com%d","baud":2400},{"meter":%q,"protocol":"dlt645-2007"}]`, port, address))
}
