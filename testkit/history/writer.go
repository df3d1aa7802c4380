package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Extension is that of the files of a history.
const Extension = ".jsonl"

const flushEvery = 100 * time.Millisecond

// Writer appends events to the file of one process. It keeps at most a tenth of a second of them in memory. Safe for
// concurrent use.
type Writer struct {
	process string
	start   time.Time
	stop    chan struct{}
	done    chan struct{}

	mu   sync.Mutex
	file *os.File
	out  *bufio.Writer
	err  error // the first; nothing is written after it
}

// Create begins the file of a process in the directory, which it makes if need be. All processes of a run name the same
// start; one that is not of this process counts by the wall clock.
func Create(dir, process string, start time.Time) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, process+Extension), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create history: %w", err)
	}
	w := &Writer{process: process, start: start, stop: make(chan struct{}), done: make(chan struct{}), file: f,
		out: bufio.NewWriterSize(f, 256<<10)}
	go w.flush()
	w.Add(Event{Actor: process, Kind: Begin, Phase: OK})
	return w, nil
}

// Start is the moment that T is counted from.
func (w *Writer) Start() time.Time { return w.start }

// Add writes an event; T, At and Process are filled in. A nil Writer writes nothing. What goes wrong is told by Close.
func (w *Writer) Add(e Event) {
	if w == nil {
		return
	}
	now := time.Now()
	e.T, e.At, e.Process = now.Sub(w.start), now.UTC(), w.process
	line, err := json.Marshal(e)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && err == nil {
		_, err = w.out.Write(append(line, '\n'))
	}
	if w.err == nil {
		w.err = err
	}
}

func (w *Writer) flush() {
	defer close(w.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case <-tick.C:
			w.mu.Lock()
			if w.err == nil {
				w.err = w.out.Flush()
			}
			w.mu.Unlock()
		}
	}
}

// Close writes what is left and ends the file. The error is the first that there was: the history is incomplete.
func (w *Writer) Close() error {
	close(w.stop)
	<-w.done
	w.mu.Lock()
	defer w.mu.Unlock()
	err := errors.Join(w.err, w.out.Flush(), w.file.Close())
	w.err = errClosed
	if err != nil {
		return fmt.Errorf("close history: %w", err)
	}
	return nil
}

var errClosed = errors.New("the history is closed")

// plain says whether b is JSON that stands in a line unchanged.
func plain(b []byte) bool {
	if !json.Valid(b) {
		return false
	}
	var c bytes.Buffer
	return json.Compact(&c, b) == nil && bytes.Equal(c.Bytes(), b) && !bytes.ContainsAny(b, "<>&\u2028\u2029")
}
