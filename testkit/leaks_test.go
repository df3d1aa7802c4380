package testkit

import (
	"testing"
	"time"

	"go.uber.org/goleak"
)

// What ends within the time is no leak, however late it is for goleak alone; what does not is one.
func TestGoroutinesThatAreLeft(t *testing.T) {
	others := goleak.IgnoreCurrent()
	ended := make(chan struct{})
	time.AfterFunc(2*time.Second, func() { close(ended) })
	go func() { <-ended }()
	if err := goroutinesLeft(endWithin, others); err != nil {
		t.Errorf("it ended: %v", err)
	}
	stays := make(chan struct{})
	defer close(stays)
	go func() { <-stays }()
	if err := goroutinesLeft(time.Millisecond, others); err == nil {
		t.Error("one that stays is not found")
	}
}
