package testkit

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// Ports are taken from below the range that systems take outgoing connections from: the kernel gives none of them to
// anybody by itself.
const (
	firstPort = 20000
	pastPorts = 32000
	portTries = 100
)

// FreeAddress takes an address on loopback that nobody listens on. No other process that asks here is given it as long as
// this one lives: it stays free also before the program that is to listen there is started, and while that is down.
func FreeAddress() (string, error) {
	port, err := freePort()
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("127.0.0.1:%d", port), nil
}

// freePort is FreeAddress without the host.
func freePort() (port int, err error) {
	for range portTries {
		port = firstPort + rand.IntN(pastPorts-firstPort)
		if err = reserve(port); err == nil {
			return port, nil
		}
	}
	return 0, fmt.Errorf("find a free port: none in %d tries: %w", portTries, err)
}

// reserved is what this process holds of its ports. Nothing is ever taken out: what is not reachable would be closed.
var (
	reservedMu sync.Mutex
	reserved   []net.PacketConn
)

// reserve takes a TCP port by the UDP port of the same number, which nobody uses here. Of that the kernel lets a machine's
// processes have one, whoever runs them, and takes it back when its process ends, however it does. Programs that are started
// do not inherit it.
func reserve(port int) error {
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	hold, err := net.ListenPacket("udp", addr)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", addr) // a stranger, who does not ask here, may be there
	if err == nil {
		err = l.Close()
	}
	if err != nil {
		_ = hold.Close()
		return err
	}
	reservedMu.Lock()
	defer reservedMu.Unlock()
	reserved = append(reserved, hold)
	return nil
}
