package door

import (
	"net"
	"net/netip"
)

const ipv6Subscriber = 64 // bits: who has one address of such a network has all

// Neighbourhood is whom an address is counted with: itself, or in IPv6 its /64. Of an address that is none it is not
// valid, and one and the same.
func Neighbourhood(ip netip.Addr) netip.Prefix {
	ip = ip.Unmap().WithZone("")
	bits := ip.BitLen()
	if ip.Is6() {
		bits = ipv6Subscriber
	}
	prefix, _ := ip.Prefix(bits) // fails only for no address
	return prefix
}

// ipOf is the address of a TCP connection's end, not valid for any other.
func ipOf(address net.Addr) netip.Addr {
	if tcp, ok := address.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr()
	}
	return netip.Addr{}
}
