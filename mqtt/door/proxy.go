package door

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
)

// The PROXY protocol, version 2 (haproxy.org/download/2.9/doc/proxy-protocol.txt, section 2.2): a load balancer tells
// in front of the connection who is behind it. Own code, because the known libraries also take version 1, guess whether
// there is a header, and read through a buffer, which would stay with each of 100 000 connections.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyFixed     = 16
	proxyMost      = 4 << 10 // bytes of addresses and TLVs; those of TLS certificates are the longest

	proxyLocal = 0x20 // the proxy's own connection, such as a health check
	proxyProxy = 0x21

	proxyUnspecified = 0x00
	proxyTCP4        = 0x11
	proxyTCP6        = 0x21
	proxyUnix        = 0x31
)

var errProxy = errors.New("no good PROXY header")

// readProxy reads the header and not a byte more. The address is that of the client, not valid when the header leaves
// it at the address of the connection: LOCAL, and families that TCP does not have.
func readProxy(r io.Reader) (client netip.AddrPort, err error) {
	var head [proxyFixed]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return client, fmt.Errorf("%w: %w", errProxy, err)
	}
	if string(head[:len(proxySignature)]) != proxySignature {
		return client, fmt.Errorf("%w: no signature", errProxy)
	}
	command, family := head[12], head[13]
	length := int(binary.BigEndian.Uint16(head[14:]))
	if length > proxyMost {
		return client, fmt.Errorf("%w: %d bytes long", errProxy, length)
	}
	var body [36]byte // the longest addresses that matter
	kept := body[:min(length, len(body))]
	if _, err := io.ReadFull(r, kept); err != nil {
		return client, fmt.Errorf("%w: %w", errProxy, err)
	}
	if _, err := io.CopyN(io.Discard, r, int64(length-len(kept))); err != nil {
		return client, fmt.Errorf("%w: %w", errProxy, err)
	}
	switch command {
	case proxyLocal:
		return client, nil
	case proxyProxy:
		return proxied(family, kept)
	}
	return client, fmt.Errorf("%w: version and command %#x", errProxy, command)
}

func proxied(family byte, addresses []byte) (client netip.AddrPort, err error) {
	switch {
	case family == proxyUnspecified, family == proxyUnix:
		return client, nil
	case family == proxyTCP4 && len(addresses) >= 12:
		ip, _ := netip.AddrFromSlice(addresses[:4])
		return netip.AddrPortFrom(ip, binary.BigEndian.Uint16(addresses[8:])), nil
	case family == proxyTCP6 && len(addresses) >= 36:
		ip, _ := netip.AddrFromSlice(addresses[:16])
		return netip.AddrPortFrom(ip.Unmap(), binary.BigEndian.Uint16(addresses[32:])), nil
	}
	return client, fmt.Errorf("%w: family %#x with %d bytes", errProxy, family, len(addresses))
}

// proxies are the networks that load balancers are in. Whoever connects from there must send a header. From anywhere
// else none is understood, so that nobody can choose an address: such a connection ends as one without CONNECT.
type proxies []netip.Prefix

func (p proxies) trust(address net.Addr) bool {
	ip := ipOf(address).Unmap().WithZone("")
	for _, network := range p {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

// introduce reads the header of a connection that comes from a proxy, and has it counted as its client's.
func (p proxies) introduce(c *socket) error {
	if !p.trust(c.Conn.RemoteAddr()) {
		return nil
	}
	client, err := readProxy(c)
	if err != nil || !client.IsValid() {
		return err
	}
	c.from = net.TCPAddrFromAddrPort(client)
	if e := c.early.Load(); e == nil || !c.gate.move(e.place, Neighbourhood(ipOf(c.from))) {
		return net.ErrClosed
	}
	return nil
}
