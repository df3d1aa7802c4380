package fleet

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
)

// ImportFormat says how the lines of an import are written.
type ImportFormat string

// The formats. CSV has a header line that names its columns; a cell of route or tags is JSON, groups are separated by
// semicolons. NDJSON has one object a line with fields of the same names.
const (
	CSV    ImportFormat = "text/csv"
	NDJSON ImportFormat = "application/x-ndjson"
)

// What an import may hold. The number of devices bounds what is remembered of ids to find those named twice.
const (
	maxImport       = 1_000_000
	maxImportLine   = 64 << 10 // bytes
	maxImportErrors = 100
	maxHeaderErrors = 20 // each names all columns that there are
	importBatch     = 500
)

// ImportReport is what an import did.
type ImportReport struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
	// WithoutCredentials is how many direct devices and IPCs came without a secret and so cannot sign in before they are
	// given one. When an import both creates and updates, those that had one before are counted too, up to Created.
	WithoutCredentials int `json:"without_credentials"`
}

// Import creates the devices that are listed, or replaces what is known of those that exist; a secret is replaced only
// by another. All or nothing: complaints (*Invalid, pointers "/line/column", up to 100 of them) leave everything as it
// was. It reads r to the end, batch by batch, and only then writes: a slow r keeps nobody waiting, and it may be as
// long as a million devices. Errors of r are returned wrapped.
func (s *Service) Import(ctx context.Context, by Actor, format ImportFormat, r io.Reader) (ImportReport, error) {
	im := &importer{tenant: by.Tenant, pepper: s.pepper, seed: maphash.MakeSeed(), seen: map[uint64]int{}}
	switch format {
	case CSV:
		im.rows = newCSVRows(r)
	case NDJSON:
		im.rows = newNDJSONRows(r)
	default:
		return ImportReport{}, fmt.Errorf("import devices: unknown format %q", format)
	}
	done, err := s.registry.Import(ctx, by, im.next)
	if row, ok := errors.AsType[*RowError](err); ok {
		wrong := &Invalid{}
		wrong.addRow(row)
		return ImportReport{}, wrong
	}
	if wrong, ok := errors.AsType[*Invalid](err); ok {
		return ImportReport{}, wrong
	}
	if err != nil {
		return ImportReport{}, fmt.Errorf("import devices: %w", err)
	}
	s.touch(ctx, done.Touched)
	return ImportReport{Created: done.Created, Updated: done.Updated, WithoutCredentials: min(im.withoutSecret, done.Created)}, nil
}

// addLine notes a complaint about a line of an import; pointer is into the line, "" when it is about the whole of it.
func (e *Invalid) addLine(line int, pointer, detail string) {
	about := ""
	if pointer != "" {
		about = pointer[1:] + " "
	}
	e.Add(fmt.Sprintf("/%d%s", line, pointer), fmt.Sprintf("line %d: %s%s", line, about, detail))
}

// addRow notes a complaint about a column of a line.
func (e *Invalid) addRow(r *RowError) {
	if r.Field == "" {
		e.addLine(r.Line, "", r.Detail)
		return
	}
	e.addLine(r.Line, "/"+escape(r.Field), r.Detail)
}

// row is one line of an import, as far as its syntax goes.
type row struct {
	line   int
	device Device
	secret string
}

// rows reads an import line by line. read answers io.EOF at the end and *RowError for a line that cannot be understood,
// after which it can be called again; any other error ends the import.
type rows interface {
	read() (row, error)
}

// importer turns rows into batches for the registry. One goroutine only.
type importer struct {
	tenant        Tenant
	pepper        Pepper
	rows          rows
	seed          maphash.Seed
	seen          map[uint64]int // hash of an id → its line: 64 bits are enough to tell a million ids apart
	withoutSecret int
	wrong         Invalid
	ended         bool
}

// next is the next batch. From the first complaint on it only reads on, to complain about the rest too.
func (im *importer) next() ([]ImportRow, error) {
	batch := make([]ImportRow, 0, importBatch)
	for !im.ended && len(batch) < importBatch && len(im.wrong.Fields) < maxImportErrors {
		got, err := im.rows.read()
		if bad, ok := errors.AsType[*RowError](err); ok {
			im.wrong.addRow(bad)
			batch = batch[:0]
			continue
		}
		if errors.Is(err, io.EOF) {
			im.ended = true
			break
		}
		if err != nil {
			return nil, err
		}
		if r, ok := im.accept(got); ok {
			batch = append(batch, r)
		}
		if len(im.wrong.Fields) > 0 {
			batch = batch[:0]
		}
	}
	if n := len(im.wrong.Fields); n > 0 {
		im.wrong.Fields = im.wrong.Fields[:min(n, maxImportErrors)]
		return nil, &im.wrong
	}
	if len(batch) == 0 {
		return nil, nil
	}
	return batch, nil
}

// accept checks a row and makes the registry's row of it.
func (im *importer) accept(r row) (ImportRow, bool) {
	d := r.device.withDefaults()
	d.Tenant = im.tenant
	wrong := &Invalid{}
	d.check(wrong)
	mac := im.secret(d, r.secret, wrong)
	if len(wrong.Fields) == 0 {
		im.remember(d.ID, r.line, wrong)
	}
	for _, f := range wrong.Fields {
		im.wrong.addLine(r.line, f.Pointer, f.Detail)
	}
	if len(wrong.Fields) > 0 {
		return ImportRow{}, false
	}
	if d.Kind != Meter && mac == nil {
		im.withoutSecret++
	}
	return ImportRow{Line: r.line, Device: d, MAC: mac}, true
}

// remember complains about an id that was there before, and about more devices than an import may hold.
func (im *importer) remember(id DeviceID, line int, wrong *Invalid) {
	hash := maphash.String(im.seed, string(id))
	if before, twice := im.seen[hash]; twice {
		wrong.Add("/id", fmt.Sprintf("was given on line %d already", before))
		return
	}
	if len(im.seen) == maxImport {
		wrong.Add("", fmt.Sprintf("is one too many: an import may hold at most %d devices", maxImport))
		im.ended = true
		return
	}
	im.seen[hash] = line
}

// secret is what is stored of a secret that was brought along; nil when there is none.
func (im *importer) secret(d Device, secret string, wrong *Invalid) []byte {
	if secret == "" {
		return nil
	}
	if d.Kind == Meter {
		wrong.Add("/secret", "is not for a meter: its IPC signs in")
		return nil
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(secret)
	if err != nil || len(raw) != 32 {
		wrong.Add("/secret", "must be 32 random bytes as 43 characters of base64url")
		return nil
	}
	return im.pepper.MAC(secret)
}
