package launch

import (
	"fmt"
	"net"
)

// Listen listens on host:port; port 0 takes a free one.
func Listen(addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}
