//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"
)

// stalled are clients that have subscribed with the smallest receive buffers and do not read any more. Nothing tells them
// that they were closed, for the end of the connection stands behind what they do not read; so it is the kernel that is
// asked, about the broker's end.
type stalled struct {
	devices  []*device
	sessions []*session
	times    []int // how often each was closed
	err      error // of looking
}

// stallAll lets devices, which are connected, come again as clients that do not read.
func stallAll(ctx context.Context, devices []*device) (*stalled, error) {
	s := &stalled{devices: devices, sessions: make([]*session, len(devices)), times: make([]int, len(devices))}
	for i, d := range devices {
		d.close()
		if err := insist(ctx, func() error { return s.connect(ctx, i) }); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (s *stalled) connect(ctx context.Context, i int) (err error) {
	d := s.devices[i]
	s.sessions[i] = nil
	one, err := dial(ctx, d.fleet.target.addr, d.source, 1, d.who)
	if err != nil {
		return fmt.Errorf("%s: %w", d.who.Client, err)
	}
	if err := one.subscribe(d.down); err != nil {
		_ = one.conn.Close()
		return fmt.Errorf("%s: %w", d.who.Client, err)
	}
	s.sessions[i] = one
	return nil
}

// watch counts those that the broker has closed and lets them come again, until ctx is done.
func (s *stalled) watch(ctx context.Context) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if s.err = s.look(ctx); s.err != nil {
			return
		}
	}
}

func (s *stalled) look(ctx context.Context) error {
	open, err := established()
	if err != nil {
		return err
	}
	for i, one := range s.sessions {
		if one != nil {
			if open[ends{addrPort(one.conn.RemoteAddr()), addrPort(one.conn.LocalAddr())}] {
				continue
			}
			s.times[i]++
			_ = one.conn.Close()
		}
		_ = s.connect(ctx, i) // tried again at the next look
	}
	return nil
}

// count is how many were closed at least once, and how often in all.
func (s *stalled) count() (closed, times int) {
	for _, n := range s.times {
		closed += min(n, 1)
		times += n
	}
	return closed, times
}

func (s *stalled) close() {
	for _, one := range s.sessions {
		if one != nil {
			_ = one.conn.Close()
		}
	}
}

// ends are both ends of a connection, seen from one of them.
type ends struct{ local, remote netip.AddrPort }

func addrPort(a net.Addr) netip.AddrPort { return a.(*net.TCPAddr).AddrPort() }

// established lists the TCP connections over IPv4 that neither end has closed, each once from either end (proc(5),
// /proc/net/tcp).
func established() (map[ends]bool, error) {
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return nil, fmt.Errorf("list connections: %w", err)
	}
	defer file.Close() //nolint:errcheck // was only read
	const stateEstablished = "01"
	open := map[ends]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) < 4 || f[3] != stateEstablished {
			continue
		}
		local, err1 := kernelAddr(f[1])
		remote, err2 := kernelAddr(f[2])
		if err1 == nil && err2 == nil {
			open[ends{local, remote}] = true
		}
	}
	return open, nil
}

// kernelAddr reads an address as 0100007F:075B, its bytes in the machine's order, which is little-endian here.
func kernelAddr(s string) (netip.AddrPort, error) {
	var ip [4]byte
	var port uint16
	if _, err := fmt.Sscanf(s, "%2X%2X%2X%2X:%4X", &ip[3], &ip[2], &ip[1], &ip[0], &port); err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom4(ip), port), nil
}
