package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// spoolInMemory is how much of a body is kept in memory; the rest goes to a temporary file.
const spoolInMemory = 4 << 20

// spool takes the whole of a body before anything is done with it: an import is one transaction, and must not be held
// open by a client that sends slowly. Whoever gets it closes it.
func spool(body io.Reader) (io.ReadCloser, error) {
	var head bytes.Buffer
	n, err := io.CopyN(&head, body, spoolInMemory)
	if errors.Is(err, io.EOF) && n < spoolInMemory {
		return io.NopCloser(&head), nil
	}
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	file, err := os.CreateTemp("", "meterline-import-*")
	if err != nil {
		return nil, fmt.Errorf("spool body: %w", err)
	}
	f := &spoolFile{file}
	_, err = io.Copy(file, io.MultiReader(&head, body))
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("spool body: %w", err), f.Close())
	}
	return f, nil
}

// spoolFile is a temporary file that is removed when it is closed.
type spoolFile struct{ *os.File }

func (f *spoolFile) Close() error {
	return errors.Join(f.File.Close(), os.Remove(f.Name()))
}
