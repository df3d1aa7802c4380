package testkit

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

const (
	pulseEvery  = 5 * time.Millisecond
	pulseFactor = 10
)

// A Pulse measures how long the machine keeps a test waiting by itself: again and again a goroutine of the test's own waits
// for a moment, and a byte goes to and fro over loopback between two of them. On a quiet machine that takes a millisecond;
// with the race detector and other work beside, hundreds. What a test then measures of a program in the same run, under the
// same load, is judged by it.
type Pulse struct {
	mu      sync.Mutex
	longest time.Duration
	began   time.Time // of the beat that is under way; zero: none is
}

// StartPulse measures until the end of the test.
func StartPulse(t testing.TB) *Pulse {
	t.Helper()
	near, far := loopback(t)
	p := &Pulse{}
	done := make(chan struct{})
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(far, far) })
	both.Go(func() { p.beat(near, done) })
	t.Cleanup(func() {
		close(done)
		_, _ = near.Close(), far.Close()
		both.Wait()
	})
	return p
}

// loopback is a connection of the test with itself.
func loopback(t testing.TB) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func (p *Pulse) beat(c net.Conn, done <-chan struct{}) {
	defer p.between()
	for b := make([]byte, 1); ; {
		p.begin()
		select {
		case <-time.After(pulseEvery):
		case <-done:
			return
		}
		if _, err := c.Write(b); err != nil {
			return
		}
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		p.between()
	}
}

func (p *Pulse) begin() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.began = time.Now()
}

func (p *Pulse) between() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest, p.began = p.soFar(), time.Time{}
}

// soFar needs p.mu.
func (p *Pulse) soFar() time.Duration {
	if p.began.IsZero() {
		return p.longest
	}
	return max(p.longest, time.Since(p.began)-pulseEvery)
}

// Longest is how long it took at most until now. What is under way counts, too: whoever asks may be the first to run again on a
// machine that stood still.
func (p *Pulse) Longest() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.soFar()
}

// Restart forgets what was measured.
func (p *Pulse) Restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.longest = 0
	if !p.began.IsZero() {
		p.began = time.Now()
	}
}

// Limit is what may be asked of a program that promises to do something within a time: that time, or, where the machine
// kept the test itself waiting, ten times as long as that. What hangs, or waits for somebody, takes longer than that.
func (p *Pulse) Limit(promised time.Duration) time.Duration {
	return max(promised, pulseFactor*p.Longest())
}
