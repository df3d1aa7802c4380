//go:build unix

package door

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

const readChunk = 4 << 10 // bytes

var chunks = sync.Pool{New: func() any { return new([readChunk]byte) }}

// inbox is what was read ahead of a connection. Its buffer is borrowed: a connection that waits for its client holds
// none.
type inbox struct {
	chunk *[readChunk]byte // nil: nothing is there
	from  int              // what is there begins here
	to    int
	err   error                 // of the last read
	read  func(fd uintptr) bool // once; nil until it is first needed
}

// receive reads ahead, so that packets cost one system call and not one for each of their parts. One goroutine reads.
func (c *socket) receive(p []byte) (int, error) {
	if c.raw == nil || len(p) == 0 {
		return c.Conn.Read(p)
	}
	in := &c.inbox
	if in.chunk == nil {
		if len(p) >= readChunk {
			return c.Conn.Read(p)
		}
		if err := in.fill(c.raw); err != nil {
			return 0, &net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
		}
		if in.chunk == nil {
			return 0, io.EOF
		}
	}
	n := copy(p, in.chunk[in.from:in.to])
	if in.from += n; in.from == in.to {
		chunks.Put(in.chunk)
		in.chunk = nil
	}
	return n, nil
}

// await waits until there is something to read.
func (c *socket) await() error {
	if c.raw == nil || c.inbox.chunk != nil {
		return nil
	}
	return c.inbox.fill(c.raw)
}

// fill waits until there is something to read, and takes a buffer only then. At the end of the stream there is none.
func (in *inbox) fill(raw syscall.RawConn) error {
	if in.read == nil {
		in.read = in.once
	}
	in.err = nil
	if err := raw.Read(in.read); err != nil {
		return err
	}
	if in.err != nil {
		return os.NewSyscallError("read", in.err)
	}
	return nil
}

// once reads what has come; it is false when nothing has.
func (in *inbox) once(fd uintptr) bool {
	chunk := chunks.Get().(*[readChunk]byte)
	n, err := syscall.Read(int(fd), chunk[:])
	for err == syscall.EINTR {
		n, err = syscall.Read(int(fd), chunk[:])
	}
	if n > 0 {
		in.chunk, in.from, in.to = chunk, 0, n
		return true
	}
	chunks.Put(chunk)
	if err == syscall.EAGAIN {
		return false
	}
	in.err = err
	return true
}
