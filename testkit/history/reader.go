package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// Read gives the events of all files in the directory, file by file, each in the order in which it was written. A last
// line that was cut off is left out: its writer was killed. Anything else that is wrong is given once and ends it.
func Read(dir string) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		files, err := filepath.Glob(filepath.Join(dir, "*"+Extension))
		if err == nil && len(files) == 0 {
			err = fmt.Errorf("read history: no file in %s", dir)
		}
		if err != nil {
			yield(Event{}, err)
			return
		}
		slices.Sort(files)
		for _, file := range files {
			if !readFile(file, yield) {
				return
			}
		}
	}
}

// readFile says whether to go on.
func readFile(path string, yield func(Event, error) bool) bool {
	f, err := os.Open(path)
	if err != nil {
		return yield(Event{}, fmt.Errorf("read history: %w", err))
	}
	defer f.Close() //nolint:errcheck // it was only read
	in, name := bufio.NewReaderSize(f, 1<<20), filepath.Base(path)
	for n := 1; ; n++ {
		text, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return true // and whatever has no end of line
		}
		if err != nil {
			yield(Event{}, fmt.Errorf("read history %s: %w", name, err))
			return false
		}
		e := Event{Line: Line(name + ":" + strconv.Itoa(n))}
		if err := json.Unmarshal(text, &e); err != nil {
			yield(Event{}, fmt.Errorf("read history %s: %w", e.Line, err))
			return false
		}
		if !yield(e, nil) {
			return false
		}
	}
}
