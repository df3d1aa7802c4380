package store

import (
	"bufio"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"

	"meterline/fleet"
)

// spoolRows is how many rows a spool holds in memory; what comes after them goes to a file.
const spoolRows = 10_000

// spool holds all rows of an import before its transaction begins: the caller may take as long as it likes to bring them,
// and the transaction may run again. It belongs to one goroutine.
type spool struct {
	rows []fleet.ImportRow // the first ones

	// the others, as gob; nil when there are none
	file    *os.File
	writing *bufio.Writer
	encoder *gob.Encoder
}

// add takes rows; they are not the caller's any more.
func (s *spool) add(rows []fleet.ImportRow) error {
	if s.file == nil && len(s.rows)+len(rows) <= spoolRows {
		s.rows = append(s.rows, rows...)
		return nil
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "meterline-import-*")
		if err != nil {
			return fmt.Errorf("make a file for the import: %w", err)
		}
		s.file, s.writing = f, bufio.NewWriterSize(f, 1<<16)
		s.encoder = gob.NewEncoder(s.writing)
	}
	for _, r := range rows {
		if err := s.encoder.Encode(r); err != nil {
			return fmt.Errorf("write the import to a file: %w", err)
		}
	}
	return nil
}

// each calls f with all rows in order, at most limit at a time. It may be called again.
func (s *spool) each(limit int, f func([]fleet.ImportRow) error) error {
	for rest := s.rows; len(rest) > 0; {
		n := min(limit, len(rest))
		if err := f(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	if s.file == nil {
		return nil
	}
	if err := s.writing.Flush(); err != nil {
		return fmt.Errorf("write the import to a file: %w", err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read the import from its file: %w", err)
	}
	d := gob.NewDecoder(bufio.NewReaderSize(s.file, 1<<16))
	for {
		rows, err := decodeRows(d, limit)
		if err != nil {
			return fmt.Errorf("read the import from its file: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		if err := f(rows); err != nil {
			return err
		}
	}
}

func decodeRows(d *gob.Decoder, limit int) (rows []fleet.ImportRow, err error) {
	for len(rows) < limit {
		var r fleet.ImportRow
		err := d.Decode(&r)
		if errors.Is(err, io.EOF) {
			return rows, nil
		}
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// close removes the file.
func (s *spool) close() {
	if s.file != nil {
		_ = s.file.Close()
		_ = os.Remove(s.file.Name())
	}
}
