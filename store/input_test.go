package store

import (
	"bytes"
	"database/sql"
	"math"
	"testing"
	"time"
)

// What goes into a statement is there as it was: of every type the extremes, NULL, and what has to be escaped somewhere.
func TestInputArrives(t *testing.T) {
	type cells struct {
		text   sql.NullString
		number sql.NullInt64
		flag   sql.NullBool
		at     moment
		bytes  []byte
	}
	rows := []cells{
		{sql.NullString{Valid: true}, sql.NullInt64{Valid: true}, sql.NullBool{Valid: true}, moment{firstMoment}, []byte{}},
		{sql.NullString{String: `"a\" {b,c} NULL` + "\n'ü", Valid: true}, sql.NullInt64{Int64: math.MinInt64, Valid: true},
			sql.NullBool{Bool: true, Valid: true}, moment{lastMoment}, []byte{0, 255, '\\'}},
		{sql.NullString{String: "NULL", Valid: true}, sql.NullInt64{Int64: math.MaxInt64, Valid: true}, sql.NullBool{Valid: true},
			moment{time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC)}, []byte(`\x00`)},
		{},
	}
	cs := columns("v_text text, v_number bigint, v_flag boolean, v_at timestamptz, v_bytes bytea")
	eachDialect(t, func(t *testing.T, db *DB) {
		f := fix(t, db)
		for n := range len(rows) + 1 {
			in := newInput(cs, n)
			for _, r := range rows[:n] {
				row := []any{nil, nil, nil, r.at.Time, r.bytes}
				if r.text.Valid {
					row = []any{r.text.String, r.number.Int64, r.flag.Bool, r.at.Time, r.bytes}
				}
				in.add(row...)
			}
			var got []cells
			check(t, f.single(f.ctx, func(x *tx) error {
				return x.each(func(row scanner) error {
					var c cells
					err := row.Scan(&c.text, &c.number, &c.flag, &c.at, &c.bytes)
					got = append(got, c)
					return err
				}, `SELECT v_text, v_number, v_flag, v_at, `+x.bytesOf("v_bytes")+` FROM `+x.relation(cs, 1), in.args(x.dialect)...)
			}))
			if len(got) != n {
				t.Fatalf("%d rows of %d", len(got), n)
			}
			for i, c := range got {
				r := rows[i]
				if c.text != r.text || c.number != r.number || c.flag != r.flag || !c.at.Equal(r.at.Time) || !bytes.Equal(c.bytes, r.bytes) {
					t.Errorf("row %d is %+v, it was %+v", i, c, r)
				}
			}
		}
	})
}
