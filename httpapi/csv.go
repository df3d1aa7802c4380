package httpapi

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/negotiation"

	"meterline/command"
)

// csvPage is how many items are read at a time for an answer in CSV.
const csvPage = 1000

// wantsCSV says whether a client would rather have CSV than JSON (RFC 9110 12.5.1).
func wantsCSV(accept string) bool {
	return negotiation.SelectQValue(accept, []string{jsonType, csvType}) == csvType
}

// csvPages is a list that is written page after page.
type csvPages[T any] struct {
	first command.List[T]
	limit int // of every page
	next  func(context.Context, command.Page) (command.List[T], error)
	rows  func(T) [][]string
}

// jsonStream answers with v, for routes that could have answered in CSV.
func (a *API) jsonStream(c *call, v any) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(huma.Context) {
		_ = c.control.SetWriteDeadline(time.Now().Add(a.times.request))
		c.w.Header().Set("Content-Type", jsonType)
		e := json.NewEncoder(c.w)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			panic(err) // see API.recovered: it tells a client that went away from what is ours
		}
	}}
}

// csvStream answers in CSV (RFC 4180). When the client named a limit it gets one page and a Link to the next; otherwise
// everything, page after page, in bounded memory. When a page cannot be had the connection is aborted: an answer that
// ends properly is whole.
func csvStream[T any](a *API, c *call, columns []string, pages csvPages[T]) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(h huma.Context) {
		ctx := h.Context()
		header := c.w.Header()
		header.Set("Content-Type", csvType+"; charset=utf-8; header=present")
		onePage := c.r.URL.Query().Has("limit")
		if onePage && pages.first.NextCursor != "" {
			header.Set("Link", "<"+nextPage(c.r, pages.first.NextCursor)+`>; rel="next"`)
		}
		w := csv.NewWriter(c.w)
		_ = w.Write(columns) // csv.Writer keeps its first error for Error
		for found := pages.first; ; {
			_ = c.control.SetWriteDeadline(time.Now().Add(a.times.request))
			for _, item := range found.Items {
				for _, row := range pages.rows(item) {
					_ = w.Write(row)
				}
			}
			w.Flush()
			if err := w.Error(); err != nil {
				panic(err) // see API.recovered: it tells a client that went away from what is ours
			}
			if found.NextCursor == "" || onePage {
				return
			}
			found = nextPageOf(ctx, a, c, pages, found.NextCursor)
		}
	}}
}

// nextPageOf reads on, or aborts the connection.
func nextPageOf[T any](ctx context.Context, a *API, c *call, pages csvPages[T], cursor string) command.List[T] {
	ctx, stop := context.WithTimeout(ctx, a.times.request)
	defer stop()
	found, err := pages.next(ctx, command.Page{Limit: pages.limit, Cursor: cursor})
	if err != nil {
		_ = a.problem(c, err) // logs it
		panic(http.ErrAbortHandler)
	}
	return found
}

// text keeps a cell of free text from being taken for a formula by a spreadsheet (OWASP: CSV injection).
func text(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// number lets numbers be what they are, and guards whatever else is in their place.
func number(cell string) string {
	if decimal.MatchString(cell) {
		return cell
	}
	return text(cell)
}

var decimal = regexp.MustCompile(`^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$`)

// stamp is a time in a cell; nothing for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// nextPage is the request's own address with another cursor.
func nextPage(r *http.Request, cursor string) string {
	q := r.URL.Query()
	q.Set("cursor", cursor)
	return (&url.URL{Path: r.URL.Path, RawQuery: q.Encode()}).String()
}
