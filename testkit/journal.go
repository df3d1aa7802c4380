package testkit

import (
	"bytes"
	"sync"
)

// A Journal keeps what is logged to it, by any goroutines.
type Journal struct {
	mu  sync.Mutex
	all bytes.Buffer
}

// Write never fails.
func (j *Journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all.Write(b)
}

// Text is everything until now.
func (j *Journal) Text() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.all.String()
}
