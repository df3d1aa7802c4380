package broker

// CloseWrite tells the client that nothing more comes, and lets it read what has been written. A backlog keeps the
// connection whole: it is written for as long as its deadline allows.
func (c *conn) CloseWrite() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && !c.draining && c.err == nil {
		return half.CloseWrite()
	}
	return nil
}
