package launch

import (
	"context"
	"fmt"
	"net"
)

// Listen listens on host:port; port 0 takes a free one.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return l, nil
}
