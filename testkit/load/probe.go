package load

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"strings"

	"meterline/testkit/history"
)

// Foreign is the id of a probe for what belongs to another tenant: the answer has to be 404. Own is that of a list of the
// client's own things.
const (
	Foreign = "foreign"
	Own     = "own"
)

// probe asks for something of another tenant, or lists what is its own.
func (c *client) probe(ctx context.Context) {
	method, path, of := http.MethodGet, "", Own
	switch kind := c.dice.IntN(6); {
	case kind == 0 || len(c.tenant.others) == 0:
		path = []string{"/v1/operations?limit=100", "/v1/devices?limit=200", "/v1/commands?limit=50", "/v1/groups"}[c.dice.IntN(4)]
	default:
		other := c.tenant.others[c.dice.IntN(len(c.tenant.others))]
		device := string(other.sites[c.dice.IntN(len(other.sites))].ID)
		path, of = foreignPath(kind, other, device, c.dice)
		if kind == 5 && of == Foreign {
			method = http.MethodPost
		}
	}
	a := c.calls.do(ctx, method, path, nil, "")
	if ctx.Err() != nil {
		return
	}
	c.add(history.Probe, history.OK, of, history.Call{Path: method + " " + path, Status: a.status, Leaks: c.leaks(a.body, path)})
}

func foreignPath(kind int, other *tenant, device string, dice *rand.Rand) (path, of string) {
	o, some := other.known(dice.IntN(2) == 0, dice)
	switch {
	case kind == 1 || !some && kind == 2:
		return "/v1/devices/" + device, Foreign
	case kind == 2:
		return "/v1/commands/" + o.id, Foreign
	case kind == 3:
		return "/v1/devices/" + device + "/latest", Foreign
	case kind == 4 && some:
		return "/v1/commands/" + o.id + "/operations", Foreign
	case kind == 5 && some:
		return "/v1/commands/" + o.id + "/cancel", Foreign
	}
	return "/v1/devices?limit=200", Own
}

// leaks lists what an answer holds of other tenants. What the client itself named in its path may come back to it.
func (c *client) leaks(body []byte, paths ...string) (found []string) {
	for _, path := range paths {
		for part := range strings.SplitSeq(path, "/") {
			if part != "" {
				body = bytes.ReplaceAll(body, []byte(part), nil)
			}
		}
	}
	for _, other := range c.tenant.others {
		for _, mark := range []string{`"tenant":"` + other.Name + `"`, `"` + other.Name + "-ipc-", `"` + other.Name + "-direct-"} {
			if at := bytes.Index(body, []byte(mark)); at >= 0 {
				found = append(found, string(body[at:min(len(body), at+len(mark)+40)]))
			}
		}
	}
	return found
}
