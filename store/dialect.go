package store

import (
	"fmt"
	"strconv"
	"strings"
)

// dialect is everything that PostgreSQL and SQLite do not say in the same words.
type dialect struct {
	postgres bool
}

// lock is a locking clause. SQLite has one writer at a time and locks nothing else.
func (d dialect) lock(clause string) string {
	if d.postgres {
		return " " + clause
	}
	return ""
}

// clock is the database's clock as SQL, the same throughout a statement, plus a number of seconds.
func (d dialect) clock(plus int) string {
	switch {
	case d.postgres && plus != 0:
		return fmt.Sprintf("(statement_timestamp() + interval '%d seconds')", plus)
	case d.postgres:
		return "statement_timestamp()"
	}
	return fmt.Sprintf("strftime('%%Y-%%m-%%d %%H:%%M:%%f000+00:00', 'now', '%+d seconds')", plus)
}

// among is true where column is one of the strings in the parameter n, which texts makes.
func (d dialect) among(column string, n int) string {
	if d.postgres {
		return fmt.Sprintf("%s = ANY ($%d::text[])", column, n)
	}
	return fmt.Sprintf("%s IN (SELECT value FROM json_each($%d))", column, n)
}

// listed is the rows of a table, as d, whose ids are among the strings in the parameter n, which texts makes. Each is looked up by
// itself, whatever the planner believes: of a table that was small when it was counted last it may think that comparing every row
// with every string is cheaper, and keep that plan while the table grows.
func (d dialect) listed(table string, n int) string {
	if d.postgres {
		return fmt.Sprintf(`(SELECT DISTINCT v_name FROM unnest($%d::text[]) AS v(v_name)) AS v
			CROSS JOIN LATERAL (SELECT * FROM %s WHERE id = v_name OFFSET 0) AS d`, n, table)
	}
	return fmt.Sprintf(`(SELECT DISTINCT value AS v_name FROM json_each($%d)) AS v
			CROSS JOIN %s AS d ON d.id = v_name`, n, table)
}

// amongInts is among for whole numbers, which ints makes.
func (d dialect) amongInts(column string, n int) string {
	if d.postgres {
		return fmt.Sprintf("%s = ANY ($%d::bigint[])", column, n)
	}
	return d.among(column, n)
}

// tagged is true where the JSON object column has all the tags of the parameter n, a JSON object.
func (d dialect) tagged(column string, n int) string {
	if d.postgres {
		return fmt.Sprintf("%s @> $%d::jsonb", column, n)
	}
	return fmt.Sprintf(`NOT EXISTS (
		SELECT 1 FROM json_each($%d) AS want
		WHERE NOT EXISTS (SELECT 1 FROM json_each(%s) AS has WHERE has.key = want.key AND has.value = want.value))`, n, column)
}

// bytesOf reads a column of an input relation as bytes.
func (d dialect) bytesOf(column string) string {
	if d.postgres {
		return column
	}
	return "unhex(" + column + ")"
}

// jsonOf reads a text column of an input relation as JSON.
func (d dialect) jsonOf(column string) string {
	if d.postgres {
		return column + "::jsonb"
	}
	return column
}

// texts makes a list of strings for among.
func texts[S ~string](d dialect, list []S) string {
	var b strings.Builder
	if d.postgres {
		b.WriteByte('{')
		for i, s := range list {
			if i > 0 {
				b.WriteByte(',')
			}
			quoteElement(&b, clean(string(s)))
		}
		b.WriteByte('}')
		return b.String()
	}
	b.WriteByte('[')
	for i, s := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		quoteJSON(&b, clean(string(s)))
	}
	b.WriteByte(']')
	return b.String()
}

// ints makes a list of numbers for amongInts.
func ints(d dialect, list []int) string {
	open, shut := "[", "]"
	if d.postgres {
		open, shut = "{", "}"
	}
	s := make([]string, len(list))
	for i, n := range list {
		s[i] = strconv.Itoa(n)
	}
	return open + strings.Join(s, ",") + shut
}
