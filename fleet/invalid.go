package fleet

import "strings"

// Invalid is the error of a request that names what is wrong with it.
type Invalid struct {
	Fields []FieldError
}

// FieldError is one complaint about one field.
type FieldError struct {
	Pointer string `json:"pointer"` // RFC 6901, into the request's body; "?name" for a query parameter; "/line/column" in an import
	Detail  string `json:"detail"`
}

func (e *Invalid) Error() string {
	var b strings.Builder
	for i, f := range e.Fields {
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(f.Pointer + ": " + f.Detail)
	}
	return b.String()
}

// Add notes a complaint.
func (e *Invalid) Add(pointer, detail string) {
	e.Fields = append(e.Fields, FieldError{pointer, detail})
}

// OrNil is e as an error, nil when there is nothing to complain about.
func (e *Invalid) OrNil() error {
	if len(e.Fields) == 0 {
		return nil
	}
	return e
}

// escape makes s a reference token of a JSON pointer (RFC 6901 3).
func escape(s string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(s)
}
