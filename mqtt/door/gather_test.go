package door

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// nothingComes wants nothing to have been sent.
func nothingComes(t *testing.T, far net.Conn) {
	t.Helper()
	_ = far.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if n, err := far.Read(make([]byte, 1)); n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d bytes came: %v", n, err)
	}
	_ = far.SetReadDeadline(time.Time{})
}

func comes(t *testing.T, far net.Conn, want string) {
	t.Helper()
	_ = far.SetReadDeadline(time.Now().Add(time.Minute))
	got := make([]byte, len(want))
	if _, err := io.ReadFull(far, got); err != nil || string(got) != want {
		t.Errorf("%.40q came, not %.40q: %v", got, want, err)
	}
}

func write(t *testing.T, c *socket, p string) {
	t.Helper()
	if n, err := c.Write([]byte(p)); n != len(p) || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
}

func TestWhatIsGatheredGoesOutTogetherAndInOrder(t *testing.T) {
	c, far, _ := pair(t, 1<<20)
	c.gather()
	write(t, c, "one ")
	write(t, c, "two ")
	nothingComes(t, far)
	c.flush()
	comes(t, far, "one two ")
	write(t, c, "three ")
	comes(t, far, "three ")

	c.gather()
	write(t, c, "four ")
	large := string(bytes.Repeat([]byte("x"), gatherMost))
	write(t, c, large) // too much
	comes(t, far, "four "+large)
	write(t, c, "five ")
	nothingComes(t, far)
	if !c.room() {
		t.Error("there is no room")
	}
	if err := c.CloseWrite(); err != nil {
		t.Error(err)
	}
	comes(t, far, "five ")
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}

// More is gathered at once than the kernel takes: it goes by the backlog, in order, before what is written after it.
func TestWhatWasGatheredMayBecomeABacklog(t *testing.T) {
	c, far, _ := pair(t, 8<<20)
	var sent bytes.Buffer
	for i := range 2000 {
		if i%2 == 0 {
			c.gather()
		} else {
			c.flush()
		}
		piece := string(bytes.Repeat([]byte{byte(i)}, 1000))
		sent.WriteString(piece)
		write(t, c, piece)
	}
	c.flush()
	comes(t, far, sent.String())
	eventually(t, "nothing is pending", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.pending == 0 && len(c.backlog) == 0
	})
}
