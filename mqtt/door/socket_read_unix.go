//go:build unix

package door

import (
	"errors"
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

// fill waits until there is something to read, and takes a buffer only then. At the end of the stream there is none.
func (in *inbox) fill(raw syscall.RawConn) error {
	var err error
	waited := raw.Read(func(fd uintptr) bool {
		chunk := chunks.Get().(*[readChunk]byte)
		var n int
		for {
			if n, err = syscall.Read(int(fd), chunk[:]); !errors.Is(err, syscall.EINTR) {
				break
			}
		}
		if n > 0 {
			in.chunk, in.from, in.to = chunk, 0, n
			return true
		}
		chunks.Put(chunk)
		return !errors.Is(err, syscall.EAGAIN)
	})
	if waited != nil {
		return waited
	}
	if err != nil {
		return os.NewSyscallError("read", err)
	}
	return nil
}
