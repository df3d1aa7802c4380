package fleet

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// ndjsonRows reads an import of one JSON object a line.
type ndjsonRows struct {
	lines *bufio.Scanner
	line  int
}

func newNDJSONRows(r io.Reader) *ndjsonRows {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, 4096), maxImportLine)
	return &ndjsonRows{lines: s}
}

// ndjsonRow is the shape of a line.
type ndjsonRow struct {
	ID         DeviceID          `json:"id"`
	Name       string            `json:"name"`
	Kind       Kind              `json:"kind"`
	EndpointID DeviceID          `json:"endpoint_id"`
	Route      json.RawMessage   `json:"route"`
	Tags       map[string]string `json:"tags"`
	Groups     []string          `json:"groups"`
	Enabled    *bool             `json:"enabled"`
	Secret     string            `json:"secret"`
}

func (n *ndjsonRows) read() (row, error) {
	for n.lines.Scan() {
		n.line++
		text := n.lines.Bytes()
		if n.line == 1 {
			text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
		}
		if len(bytes.TrimSpace(text)) > 0 {
			return n.parse(text)
		}
	}
	err := n.lines.Err()
	if errors.Is(err, bufio.ErrTooLong) {
		return row{}, &Invalid{Fields: []FieldError{{fmt.Sprintf("/%d", n.line+1),
			fmt.Sprintf("line %d: must be at most %d bytes", n.line+1, maxImportLine)}}}
	}
	if err != nil {
		return row{}, err
	}
	return row{}, io.EOF
}

func (n *ndjsonRows) parse(text []byte) (row, error) {
	bad := func(field, detail string) (row, error) {
		return row{}, &RowError{Line: n.line, Field: field, Detail: detail}
	}
	if !utf8.Valid(text) {
		return bad("", "must be UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	var got ndjsonRow
	if err := d.Decode(&got); err != nil {
		if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			field, _, _ := strings.Cut(wrong.Field, ".")
			return bad(field, "must not be a JSON "+wrong.Value)
		}
		if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
			return bad(strings.Trim(name, `"`), "is not a field of a device")
		}
		return bad("", "must be a JSON object")
	}
	if d.InputOffset() < int64(len(bytes.TrimRight(text, " \t\r\n"))) {
		return bad("", "must be one JSON object and nothing after it")
	}
	return row{line: n.line, secret: got.Secret, device: Device{ID: got.ID, Name: got.Name, Kind: got.Kind,
		EndpointID: got.EndpointID, Route: got.Route, Tags: got.Tags, Groups: got.Groups,
		Enabled: got.Enabled == nil || *got.Enabled}}, nil
}
