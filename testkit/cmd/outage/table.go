package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"meterline/testkit/checker"
)

var head = []string{"second", "POST 2xx", "503", "429", "other", "no answer", "waiting", "p50 ms", "max ms",
	"poll 200", "poll 503", "poll other", "poll no answer", "poll max ms", "ended", "PUBACK", "PUBACK max s", "lost", "back", "refused", "connected", "kept",
	"open", "log", "oldest s", "ready"}

// legend explains the columns.
const legend = `Second 0 is the first of the outage. Rows of several seconds have counts per second, the largest of times, and levels at their end.

- POST of commands and poll of one command: how many were answered so in that second, how many wait at its end; *no answer*: the
  connection was refused, was cut, or nothing came for 10 s. *other*: mostly 422, mistakes that the load makes on purpose. Columns in
  which nothing is are left out.
- *ended*: operations that a poll showed the end of for the first time.
- *PUBACK*: uplinks acknowledged, and the longest time from the first publish of one to its PUBACK. *lost*, *back*, *refused*:
  connections of endpoints that ended (other than by the load itself), that came up, and attempts that failed. *kept*: messages at the
  endpoints that have no PUBACK.
- *open*: operations that have not ended. *log*: entries of the uplink log (some are stored and not trimmed yet), *oldest*: age of the
  oldest that is not stored. *ready*: processes that say so, of 4. –: not to be had.
`

// tell prints the table, folded, the summary and what the checker says. All seconds go into a file.
func (r *result) tell(w io.Writer) error {
	rows := r.story.rows()
	var all strings.Builder
	table(&all, rows)
	if err := os.MkdirAll(filepath.Dir(r.file), 0o750); err != nil {
		return err
	}
	if err := os.WriteFile(r.file, []byte(all.String()), 0o600); err != nil {
		return err
	}
	fmt.Fprintf(w, "## %s\n\n%s\n", r.title(), legend)
	table(w, folded(rows, 0, r.story.second(r.story.healed)))
	fmt.Fprintf(w, "\nAll %d seconds are in %s.\n\n", len(rows), r.file)
	r.story.summary(w)
	fmt.Fprintf(w, "\n%s%s\n", checker.Head, r.report.Row(r.name()))
	for _, v := range r.report.Violations {
		fmt.Fprintln(w, v)
	}
	if len(rows) == 0 {
		return errors.Join(r.good(), errors.New("no second was seen"))
	}
	return r.good()
}

func (r *result) title() string {
	server := map[string]string{"redis": "Redis", "postgres": "PostgreSQL"}[r.what]
	switch r.how {
	case "flush":
		return "FLUSHALL, log in " + r.uplink
	case "pause":
		return fmt.Sprintf("%s stands still for %s, log in %s", server, r.lasts, r.uplink)
	case "stop":
		return fmt.Sprintf("%s stopped for %s, log in %s", server, r.lasts, r.uplink)
	}
	return fmt.Sprintf("%s killed, started after %s, log in %s", server, r.lasts, r.uplink)
}

// table prints the rows, without the columns in which nothing is.
func table(w io.Writer, rows []row) {
	full := make([]bool, len(head))
	cells := make([][]string, len(rows))
	for i, r := range rows {
		cells[i] = r.cells()
		for n, c := range cells[i] {
			full[n] = full[n] || c != ""
		}
	}
	line := func(cells []string) {
		for n, c := range cells {
			if full[n] {
				fmt.Fprintf(w, "| %s ", c)
			}
		}
		fmt.Fprintln(w, "|")
	}
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, c := range cells {
		line(c)
	}
}

func (r row) cells() []string {
	seconds := float64(r.to - r.from + 1)
	per := func(n int) string {
		switch {
		case n == 0:
			return ""
		case seconds == 1:
			return fmt.Sprint(n)
		}
		return fmt.Sprintf("%.1f", float64(n)/seconds)
	}
	name := fmt.Sprint(r.from)
	if r.to > r.from {
		name = fmt.Sprintf("%d to %d", r.from, r.to)
	}
	p, q, s := r.posts, r.polls, r.sample
	cells := []string{name, per(p.taken), per(p.refused), per(p.tooMany), per(p.other), per(p.none), count(p.waiting), ms(p.median()), ms(p.most()),
		per(q.taken), per(q.refused), per(q.other + q.tooMany), per(q.none), ms(q.most()),
		per(r.ended), per(r.pubacks)}
	slowest := ""
	if r.pubacks > 0 {
		slowest = seconds1(r.slowest)
	}
	return append(cells, slowest, per(r.lost), per(r.back), per(int(r.failed)), level(float64(s.connected), "%.0f"), level(float64(s.kept), "%.0f"),
		level(s.open, "%.0f"), level(s.entries, "%.0f"), level(s.oldest, "%.1f"), level(float64(s.ready), "%.0f"))
}

func count(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func ms(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return fmt.Sprint(d.Milliseconds())
}

func seconds1(d time.Duration) string { return fmt.Sprintf("%.1f", d.Seconds()) }

func level(v float64, format string) string {
	if v == unknown {
		return "–"
	}
	return fmt.Sprintf(format, v)
}
