package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"meterline/simulator"
)

// progress writes one line of numbers over itself, once a second, when it writes to a terminal; else nothing.
type progress struct {
	out    io.Writer
	fleet  *simulator.Fleet
	loader *simulator.Loader // nil: no load
	quit   chan struct{}
	done   chan struct{}
}

func newProgress(out io.Writer, fleet *simulator.Fleet, loader *simulator.Loader) *progress {
	p := &progress{out: out, fleet: fleet, loader: loader, quit: make(chan struct{}), done: make(chan struct{})}
	if !isTerminal(out) {
		close(p.done)
		return p
	}
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.done)
	beat := time.NewTicker(time.Second)
	defer beat.Stop()
	began := time.Now()
	last := p.fleet.Counters()
	for {
		select {
		case <-p.quit:
			fmt.Fprint(p.out, "\r\033[K")
			return
		case <-beat.C:
			now := p.fleet.Counters()
			fmt.Fprintf(p.out, "\r\033[K%s  connected %d/%d  readings acknowledged %d (+%d/s)  in journals %d", time.Since(began).Round(time.Second),
				now.Connected, len(p.fleet.Sites()), now.ReadingsAcked, now.ReadingsAcked-last.ReadingsAcked, now.Journal)
			if p.loader != nil {
				fmt.Fprint(p.out, "  ", p.loader.Progress())
			}
			last = now
		}
	}
}

// stop clears the line and waits until nothing more is written.
func (p *progress) stop() {
	close(p.quit)
	<-p.done
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
