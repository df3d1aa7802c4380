//go:build !unix

package broker

type inbox struct{}

func (c *conn) receive(p []byte) (int, error) { return c.Conn.Read(p) }
