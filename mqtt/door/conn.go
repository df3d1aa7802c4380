package door

import (
	"crypto/x509"
	"net"
)

// Conn is a connection that may speak MQTT: what comes before is done. Write never waits for the network, and goes out as a
// whole or not at all; a client that lets more pile up than the backlog, or takes nothing of it for 2 s, is disconnected.
// Deadlines are for reading alone.
type Conn struct {
	net.Conn         // TCP, TLS or WebSocket
	socket   *socket // at the bottom of it
	place    *place
	leaf     *x509.Certificate
}

// Certificate is the client's, verified; nil when it showed none.
func (c *Conn) Certificate() *x509.Certificate { return c.leaf }

// Admitted says that the client is: its connection needs no place any more, and no deadline holds but what is asked for.
// Calls after the first do nothing.
func (c *Conn) Admitted() { c.socket.admitted() }

// Evicted says that the connection lost its place before it was admitted: it is closed, and counted as refused.
func (c *Conn) Evicted() bool { return c.place.evicted.Load() }

// Narrow bounds what the kernel holds of the connection, for clients of which there are many: see sendBuffer.
func (c *Conn) Narrow() {
	if c.socket.raw != nil {
		narrow(c.socket.raw)
	}
}

// Arrived says whether there is something to read, the end of the stream included. It does not wait.
func (c *Conn) Arrived() bool { return c.socket.raw != nil && arrived(c.socket.raw) }

// Await waits until there is something to read, the end of the stream included, as Read would, but with next to no stack. Where
// it cannot say it does not wait.
func (c *Conn) Await() error {
	if s, ok := c.Conn.(*socket); ok {
		return s.await()
	}
	return nil
}

// Room says whether the client reads fast enough for more to be written. After no, OnRoom's function is called.
func (c *Conn) Room() bool { return c.socket.room() }

// OnRoom has resume called, without locks, when Room has said no and there is room again. It may write.
func (c *Conn) OnRoom(resume func()) { c.socket.onRoom(resume) }

// CloseWrite tells the client that nothing more comes, and lets it read what has been written.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
