package broker

import (
	"crypto/x509"
	"slices"
	"strings"

	"meterline/fleet"
	"meterline/meterread"
)

// deviceURI begins a subject alternative name of type URI that names a device.
const deviceURI = "urn:meterline:device:"

// certifiedIDs are the ids that a client's certificate names, if there is one and it was verified: subject alternative
// names of type DNS that can be a device id, compared as they are written, and URIs urn:meterline:device:ID, for ids that
// a CA would not take as a DNS name. The common name means nothing (RFC 6125, 6.4.4).
func certifiedIDs(leaf *x509.Certificate) (ids []fleet.DeviceID) {
	if leaf == nil {
		return nil
	}
	names := slices.Clone(leaf.DNSNames)
	for _, uri := range leaf.URIs {
		if id, ok := strings.CutPrefix(uri.String(), deviceURI); ok {
			names = append(names, id)
		}
	}
	for _, name := range names {
		if id, err := meterread.ParseDeviceID(name); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// vouch compares what the client says with its certificate, when that names anybody: the user name must be one of the
// names. A client without user name and password is whom its certificate names, if that is one. It is false when the
// certificate is another's.
func (h *hello) vouch() bool {
	if len(h.certified) == 0 {
		return true
	}
	if h.anonymous && len(h.certified) == 1 {
		h.username, h.anonymous = string(h.certified[0]), false
	}
	return slices.Contains(h.certified, fleet.DeviceID(h.username))
}

// byCertificate says that the certificate alone admits the endpoint: it names it, and no password was given. With one,
// both must be right.
func (h *hello) byCertificate() bool { return len(h.certified) > 0 && h.unspoken }
