package store

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// column is one column of an input. Names begin with v_, so that no statement has to say whose they are.
type column struct {
	name string
	typ  string // PostgreSQL's: text, bigint, timestamptz, boolean or bytea
}

// columns reads "name type, name type, ...".
func columns(spec string) []column {
	parts := strings.Split(spec, ",")
	cs := make([]column, len(parts))
	for i, p := range parts {
		name, typ, ok := strings.Cut(strings.TrimSpace(p), " ")
		if !ok {
			panic("store: a column without a type: " + p)
		}
		cs[i] = column{name, typ}
	}
	return cs
}

// input is a relation of rows that go into one statement, however many they are.
type input struct {
	columns []column
	rows    [][]any
}

func newInput(cs []column, capacity int) *input {
	return &input{columns: cs, rows: make([][]any, 0, capacity)}
}

// add takes a row: strings, ints, int64s, bools, times, byte slices, and nil for NULL, as are the zero time and nil slice.
func (in *input) add(row ...any) {
	if len(row) != len(in.columns) {
		panic(fmt.Sprintf("store: %d values for %d columns", len(row), len(in.columns)))
	}
	in.rows = append(in.rows, row)
}

func (in *input) len() int { return len(in.rows) }

// relation is the input as SQL, named v. Its parameters are $from and those that follow, so it goes last. PostgreSQL takes
// an array a column, SQLite one JSON array of rows.
func (d dialect) relation(cs []column, from int) string {
	var b strings.Builder
	if d.postgres {
		b.WriteString("unnest(")
		for i, c := range cs {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "$%d::%s[]", from+i, c.typ)
		}
		b.WriteString(") AS v(")
		for i, c := range cs {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(c.name)
		}
		b.WriteString(")")
		return b.String()
	}
	b.WriteString("(SELECT ")
	for i, c := range cs {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "value->>%d AS %s", i, c.name)
	}
	fmt.Fprintf(&b, " FROM json_each($%d)) AS v", from)
	return b.String()
}

// args are the parameters of relation, after those before it.
func (in *input) args(d dialect, before ...any) []any {
	if d.postgres {
		for i := range in.columns {
			before = append(before, in.array(i))
		}
		return before
	}
	return append(before, in.json())
}

// array is one column as a PostgreSQL array in the format of the wire (array_send): what PostgreSQL reads as text, above all
// times, costs it several times as much as what it copies.
func (in *input) array(column int) []byte {
	b := make([]byte, 0, 20+16*len(in.rows))
	if len(in.rows) == 0 {
		b = binary.BigEndian.AppendUint32(b, 0) // dimensions
	} else {
		b = binary.BigEndian.AppendUint32(b, 1)
	}
	nulls := uint32(0)
	for _, row := range in.rows {
		if isNull(row[column]) {
			nulls = 1
		}
	}
	b = binary.BigEndian.AppendUint32(b, nulls)
	b = binary.BigEndian.AppendUint32(b, in.columns[column].oid())
	if len(in.rows) == 0 {
		return b
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(in.rows)))
	b = binary.BigEndian.AppendUint32(b, 1) // the first has number 1
	for _, row := range in.rows {
		b = appendElement(b, row[column])
	}
	return b
}

func isNull(cell any) bool {
	switch v := cell.(type) {
	case nil:
		return true
	case time.Time:
		return v.IsZero()
	case []byte:
		return v == nil
	}
	return false
}

// The numbers of PostgreSQL's types, which never change (pg_type.dat).
var typeNumbers = map[string]uint32{"boolean": 16, "bytea": 17, "bigint": 20, "text": 25, "timestamptz": 1184}

func (c column) oid() uint32 {
	n := typeNumbers[c.typ]
	if n == 0 {
		panic("store: a column of type " + c.typ)
	}
	return n
}

// postgresEpoch is the microsecond that PostgreSQL counts from, 2000-01-01, as Go counts.
const postgresEpoch = 946_684_800_000_000

// appendElement writes one element of an array: its length, -1 for NULL, and what it is.
func appendElement(b []byte, cell any) []byte {
	if isNull(cell) {
		return binary.BigEndian.AppendUint32(b, math.MaxUint32)
	}
	switch v := cell.(type) {
	case string:
		v = clean(v)
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	case int:
		return appendNumber(b, int64(v))
	case int64:
		return appendNumber(b, v)
	case bool:
		b = binary.BigEndian.AppendUint32(b, 1)
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case time.Time:
		return appendNumber(b, micro(v).UnixMicro()-postgresEpoch)
	case []byte:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	panic(fmt.Sprintf("store: a %T in an input", cell))
}

func appendNumber(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(b, 8), uint64(n))
}

// json is all rows as a JSON array of arrays. Bytes are hexadecimal: see bytesOf.
func (in *input) json() string {
	var b strings.Builder
	b.Grow(16 * len(in.rows) * len(in.columns))
	b.WriteByte('[')
	for i, row := range in.rows {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('[')
		for j, cell := range row {
			if j > 0 {
				b.WriteByte(',')
			}
			writeJSONCell(&b, cell)
		}
		b.WriteByte(']')
	}
	b.WriteByte(']')
	return b.String()
}

func writeJSONCell(b *strings.Builder, cell any) {
	switch v := cell.(type) {
	case nil:
		b.WriteString("null")
	case string:
		quoteJSON(b, clean(v))
	case int:
		b.WriteString(strconv.Itoa(v))
	case int64:
		b.WriteString(strconv.FormatInt(v, 10))
	case bool:
		b.WriteString(strconv.FormatBool(v))
	case time.Time:
		if v.IsZero() {
			b.WriteString("null")
		} else {
			b.WriteString(`"` + timeText(v) + `"`)
		}
	case []byte:
		if v == nil {
			b.WriteString("null")
		} else {
			b.WriteString(`"` + hex.EncodeToString(v) + `"`)
		}
	default:
		panic(fmt.Sprintf("store: a %T in an input", v))
	}
}

// quoteElement writes one element of a PostgreSQL array literal.
func quoteElement(b *strings.Builder, s string) {
	b.WriteByte('"')
	for {
		i := strings.IndexAny(s, `"\`)
		if i < 0 {
			break
		}
		b.WriteString(s[:i])
		b.WriteByte('\\')
		b.WriteByte(s[i])
		s = s[i+1:]
	}
	b.WriteString(s)
	b.WriteByte('"')
}

func quoteJSON(b *strings.Builder, s string) {
	quoted, _ := json.Marshal(s) // a string always can be
	b.Write(quoted)
}

// clean replaces what no database takes as text: bytes that are not UTF-8, and NUL. A device's error message must not
// be able to stop the batch it came in.
func clean(s string) string {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
