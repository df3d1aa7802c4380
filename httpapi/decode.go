package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxComplaints is how many things of one body are complained about.
const maxComplaints = 100

// decode reads a body strictly: one JSON value in UTF-8, no field that T does not have, no value of another type, names
// as they are written. What is not JSON is a 400, what is not a T a 422 that points at each thing. null counts as
// absent. hash is the SHA-256 of the body in one canonical form, so that neither spaces nor the order of fields matter.
func decode[T any](raw []byte) (v T, hash []byte, err error) {
	if !utf8.Valid(raw) {
		return v, nil, newProblem(http.StatusBadRequest, "BAD_JSON", "the body is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return v, nil, badJSON(raw, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, nil, newProblem(http.StatusBadRequest, "BAD_JSON", "there is something after the JSON value")
	}
	w := walker{}
	w.check("", tree, reflect.TypeFor[T]())
	if len(w.wrong) > 0 {
		return v, nil, invalid(w.wrong...)
	}
	var canonical bytes.Buffer
	e := json.NewEncoder(&canonical)
	e.SetEscapeHTML(false)
	if err := e.Encode(tree); err != nil {
		return v, nil, fmt.Errorf("encode body: %w", err)
	}
	if err := json.Unmarshal(canonical.Bytes(), &v); err != nil {
		return v, nil, invalid(fieldError{Detail: err.Error()})
	}
	sum := sha256.Sum256(canonical.Bytes())
	return v, sum[:], nil
}

func badJSON(raw []byte, err error) *Problem {
	detail := "the body is not JSON"
	if s, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := raw[:min(int(s.Offset), len(raw))]
		line := bytes.Count(before, []byte("\n")) + 1
		detail += fmt.Sprintf(": line %d, column %d: %s", line, len(before)-bytes.LastIndexByte(before, '\n')-1, s.Error())
	} else if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		detail += ": it ends in the middle"
	}
	return newProblem(http.StatusBadRequest, "BAD_JSON", detail)
}

// walker compares a JSON value with the Go type it is meant for.
type walker struct {
	wrong []fieldError
}

func (w *walker) complain(at, detail string) {
	if len(w.wrong) < maxComplaints {
		w.wrong = append(w.wrong, fieldError{Pointer: at, Detail: detail})
	}
}

var (
	rawType  = reflect.TypeFor[json.RawMessage]()
	timeType = reflect.TypeFor[time.Time]()
	textType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (w *walker) check(at string, v any, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case v == nil:
	case t == rawType:
		w.free(at, v)
	case t == timeType:
		s, ok := v.(string)
		if _, err := time.Parse(time.RFC3339Nano, s); !ok || err != nil {
			w.complain(at, wantsTime)
		}
	case t.Kind() == reflect.String || reflect.PointerTo(t).Implements(textType):
		w.text(at, v)
	case t.Kind() == reflect.Bool:
		if _, ok := v.(bool); !ok {
			w.complain(at, "must be true or false")
		}
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Int64:
		n, _ := v.(json.Number)
		if _, err := strconv.ParseInt(n.String(), 10, t.Bits()); err != nil {
			w.complain(at, "must be a whole number")
		}
	case t.Kind() == reflect.Slice:
		w.list(at, v, t.Elem())
	case t.Kind() == reflect.Map:
		w.object(at, v, func(string) reflect.Type { return t.Elem() })
	case t.Kind() == reflect.Struct:
		w.object(at, v, func(name string) reflect.Type { return fieldNamed(t, name) })
	default:
		panic("decode: no rule for " + t.String())
	}
}

// text complains about NUL, which databases refuse.
func (w *walker) text(at string, v any) {
	s, ok := v.(string)
	switch {
	case !ok:
		w.complain(at, "must be a string")
	case strings.ContainsRune(s, 0):
		w.complain(at, "must not contain NUL characters")
	}
}

func (w *walker) list(at string, v any, element reflect.Type) {
	values, ok := v.([]any)
	if !ok {
		w.complain(at, "must be an array")
		return
	}
	for i, v := range values {
		if v == nil {
			w.complain(at+"/"+strconv.Itoa(i), "must not be null")
			continue
		}
		w.check(at+"/"+strconv.Itoa(i), v, element)
	}
}

// object checks the fields of an object; typeOf answers nil for a field there is not.
func (w *walker) object(at string, v any, typeOf func(name string) reflect.Type) {
	fields, ok := v.(map[string]any)
	if !ok {
		w.complain(at, "must be an object")
		return
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		field := at + "/" + escaper.Replace(name)
		t := typeOf(name)
		switch {
		case t == nil:
			w.complain(field, "there is no such field")
		case strings.ContainsRune(name, 0):
			w.complain(field, "must not contain NUL characters")
		default:
			w.check(field, fields[name], t)
		}
	}
}

// escaper makes a name a reference token of a JSON pointer (RFC 6901 3).
var escaper = strings.NewReplacer("~", "~0", "/", "~1")

// fieldNamed is the type of the field that encoding/json knows by exactly this name; nil when there is none.
func fieldNamed(t reflect.Type, name string) reflect.Type {
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name && name != "-" && f.IsExported() {
			return f.Type
		}
	}
	return nil
}

// free checks what is kept as it comes: anything that can be kept.
func (w *walker) free(at string, v any) {
	switch v := v.(type) {
	case string:
		w.text(at, v)
	case json.Number:
		if _, err := strconv.ParseFloat(v.String(), 64); err != nil {
			w.complain(at, "is too large a number")
		}
	case []any:
		for i, e := range v {
			w.free(at+"/"+strconv.Itoa(i), e)
		}
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			w.text(at, name)
			w.free(at+"/"+escaper.Replace(name), v[name])
		}
	}
}
