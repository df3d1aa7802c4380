package fleet

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// columns are the columns an import knows; id and kind must be there.
var columns = []string{"id", "name", "kind", "endpoint_id", "route", "tags", "groups", "enabled", "secret"}

// csvRows reads an import in CSV (RFC 4180), with a header line.
type csvRows struct {
	in    *rowLimit
	csv   *csv.Reader
	names []string // of the columns, by place; nil before the header was read
	line  int      // where the last row that could be read began
}

func newCSVRows(r io.Reader) *csvRows {
	buffered := bufio.NewReader(r)
	if bom, err := buffered.Peek(3); err == nil && bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = buffered.Discard(3) // what has been peeked at can be discarded
	}
	in := &rowLimit{r: buffered}
	c := csv.NewReader(in)
	c.ReuseRecord = true
	return &csvRows{in: in, csv: c}
}

// errRowTooLong ends an import: where the next row begins is not known.
var errRowTooLong = errors.New("a row is too long")

// rowLimit is a reader that gives up when one row takes more than maxImportLine, so that an unclosed quote does not
// take the whole import into memory.
type rowLimit struct {
	r    io.Reader
	left int
}

func (l *rowLimit) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errRowTooLong
	}
	n, err := l.r.Read(p)
	l.left -= n
	return n, err
}

func (c *csvRows) read() (row, error) {
	if c.names == nil {
		if err := c.readHeader(); err != nil {
			return row{}, err
		}
	}
	cells, err := c.record()
	if err != nil {
		return row{}, err
	}
	c.line, _ = c.csv.FieldPos(0)
	r := row{line: c.line, device: Device{Enabled: true}}
	for i, cell := range cells {
		if err := r.set(c.names[i], cell); err != nil {
			return row{}, err
		}
	}
	return r, nil
}

// record is the next record; lines that hold nothing are skipped by encoding/csv.
func (c *csvRows) record() ([]string, error) {
	c.in.left = maxImportLine
	cells, err := c.csv.Read()
	if err == nil || errors.Is(err, io.EOF) {
		return cells, err
	}
	bad, ok := errors.AsType[*csv.ParseError](err)
	switch {
	case ok && errors.Is(err, csv.ErrFieldCount):
		c.line = bad.StartLine
		return nil, &RowError{Line: bad.StartLine, Detail: fmt.Sprintf("has %d cells, the header %d", len(cells), len(c.names))}
	case ok:
		// The reader has lost its place: what follows would be misread.
		return nil, &Invalid{Fields: []FieldError{{fmt.Sprintf("/%d", bad.StartLine),
			fmt.Sprintf("line %d: column %d: %v", bad.Line, bad.Column, bad.Err)}}}
	case errors.Is(err, errRowTooLong):
		return nil, &Invalid{Fields: []FieldError{{"", fmt.Sprintf("the row after line %d is longer than %d bytes", c.line, maxImportLine)}}}
	}
	return nil, err
}

func (c *csvRows) readHeader() error {
	cells, err := c.record()
	wrong := &Invalid{}
	if errors.Is(err, io.EOF) {
		wrong.addLine(1, "", "must name the columns")
		return wrong
	}
	if err != nil {
		return err
	}
	names := slices.Clone(cells)
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	for i := 0; i < len(names) && len(wrong.Fields) < maxHeaderErrors; i++ {
		switch {
		case !slices.Contains(columns, names[i]):
			wrong.addRow(&RowError{1, names[i], "is not a column: there are " + strings.Join(columns, ", ")})
		case slices.Contains(names[:i], names[i]):
			wrong.addRow(&RowError{1, names[i], "is there twice"})
		}
	}
	for _, must := range []string{"id", "kind"} {
		if !slices.Contains(names, must) {
			wrong.addRow(&RowError{1, must, "is missing"})
		}
	}
	if len(wrong.Fields) > 0 {
		return wrong
	}
	c.names = names
	return nil
}

// set takes one cell over. cell belongs to the reader only as a whole record, its text is our own.
func (r *row) set(name, cell string) error {
	bad := func(detail string) error { return &RowError{Line: r.line, Field: name, Detail: detail} }
	if !utf8.ValidString(cell) {
		return bad("must be UTF-8")
	}
	if cell == "" {
		return nil
	}
	switch name {
	case "id":
		r.device.ID = DeviceID(cell)
	case "name":
		r.device.Name = cell
	case "kind":
		r.device.Kind = Kind(cell)
	case "endpoint_id":
		r.device.EndpointID = DeviceID(cell)
	case "route":
		if !json.Valid([]byte(cell)) {
			return bad("must be JSON")
		}
		r.device.Route = json.RawMessage(cell)
	case "tags":
		if json.Unmarshal([]byte(cell), &r.device.Tags) != nil {
			return bad("must be a JSON object of strings")
		}
	case "groups":
		for name := range strings.SplitSeq(cell, ";") {
			if name = strings.TrimSpace(name); name != "" {
				r.device.Groups = append(r.device.Groups, name)
			}
		}
	case "enabled":
		enabled, err := strconv.ParseBool(cell)
		if err != nil {
			return bad("must be true or false")
		}
		r.device.Enabled = enabled
	case "secret":
		r.secret = cell
	}
	return nil
}
