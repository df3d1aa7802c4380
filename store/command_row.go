package store

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// commandColumns are those of commandRow.
const commandColumns = `id, seq, tenant, COALESCE(parent_id, '') AS parent_id, kind, mode, priority, selector, items, params, max_age_us,
	max_attempts, issued_by, traceparent, created_at, not_before, expires_at, expanding, expanded_to, cancelled_at, finished_at,
	version, shown_expired, total, sent, delivered, accepted, succeeded, failed, expired, cancelled, dead`

// leanCommandColumns are commandColumns without the selector.
var leanCommandColumns = strings.Replace(commandColumns, " selector,", " '{}' AS selector,", 1)

// commandRow is a row of commands.
type commandRow struct {
	ID           command.ID         `db:"id"`
	Seq          int64              `db:"seq"`
	Tenant       fleet.Tenant       `db:"tenant"`
	ParentID     command.ID         `db:"parent_id"`
	Kind         command.Kind       `db:"kind"`
	Mode         command.Mode       `db:"mode"`
	Priority     int                `db:"priority"`
	Selector     string             `db:"selector"`
	Items        string             `db:"items"`
	Params       *string            `db:"params"`
	MaxAge       int64              `db:"max_age_us"`
	Attempts     int                `db:"max_attempts"`
	IssuedBy     string             `db:"issued_by"`
	TraceParent  string             `db:"traceparent"`
	CreatedAt    moment             `db:"created_at"`
	NotBefore    moment             `db:"not_before"`
	ExpiresAt    moment             `db:"expires_at"`
	Expanding    bool               `db:"expanding"`
	Expanded     meterread.DeviceID `db:"expanded_to"`
	CancelledAt  moment             `db:"cancelled_at"`
	FinishedAt   moment             `db:"finished_at"`
	Version      int64              `db:"version"`
	ShownExpired bool               `db:"shown_expired"`
	Total        int                `db:"total"`
	Sent         int                `db:"sent"`
	Delivered    int                `db:"delivered"`
	Accepted     int                `db:"accepted"`
	Succeeded    int                `db:"succeeded"`
	Failed       int                `db:"failed"`
	Expired      int                `db:"expired"`
	Cancelled    int                `db:"cancelled"`
	Dead         int                `db:"dead"`
}

// command is the row as the domain sees it, without its errors.
func (r *commandRow) command() (command.Command, error) {
	c := command.Command{
		ID: r.ID, Seq: r.Seq, Tenant: r.Tenant, ParentID: r.ParentID, Kind: r.Kind, Mode: r.Mode, Priority: r.Priority,
		MaxAge: time.Duration(r.MaxAge) * time.Microsecond, Attempts: r.Attempts, IssuedBy: r.IssuedBy, TraceParent: r.TraceParent,
		CreatedAt: r.CreatedAt.Time, NotBefore: r.NotBefore.Time, ExpiresAt: r.ExpiresAt.Time,
		Expanding: r.Expanding, Expanded: r.Expanded, CancelledAt: r.CancelledAt.Time, FinishedAt: r.FinishedAt.Time,
		Version: r.Version, ShownExpired: r.ShownExpired,
		Counts: command.Counts{
			Total: r.Total, Sent: r.Sent, Delivered: r.Delivered, Accepted: r.Accepted, Succeeded: r.Succeeded,
			Failed: r.Failed, Expired: r.Expired, Cancelled: r.Cancelled, Dead: r.Dead,
		},
	}
	c.Counts.Queued = c.Counts.Total - moved(c.Counts)
	if r.Params != nil {
		c.Params = json.RawMessage(*r.Params)
	}
	if err := json.Unmarshal([]byte(r.Items), &c.Items); err != nil {
		return c, fmt.Errorf("read items of command %s: %w", r.ID, err)
	}
	if err := json.Unmarshal([]byte(r.Selector), &c.Selector); err != nil {
		return c, fmt.Errorf("read selector of command %s: %w", r.ID, err)
	}
	return c, nil
}

// moved is how many operations are counted in a state other than queued.
func moved(c command.Counts) int { return c.Sent + c.Delivered + c.Accepted + ended(c) }

// ended is how many operations have ended.
func ended(c command.Counts) int { return c.Succeeded + c.Failed + c.Expired + c.Cancelled + c.Dead }

// domain turns rows into commands with their errors, in the order of the rows.
func (t *tx) domain(rows []commandRow) ([]command.Command, error) {
	cs := make([]command.Command, len(rows))
	var failed []command.ID
	for i := range rows {
		c, err := rows[i].command()
		if err != nil {
			return nil, err
		}
		cs[i] = c
		if c.Counts.Failed+c.Counts.Dead > 0 {
			failed = append(failed, c.ID)
		}
	}
	errs, err := t.errorsOf(failed)
	if err != nil {
		return nil, err
	}
	for i := range cs {
		cs[i].Errors = errs[cs[i].ID]
	}
	return cs, nil
}

// errorsOf counts the error codes of commands.
func (t *tx) errorsOf(ids []command.ID) (map[command.ID]map[string]int, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []struct {
		ID   command.ID `db:"command_id"`
		Code string     `db:"code"`
		N    int        `db:"n"`
	}
	err := t.list(&rows, `
		SELECT command_id, code, n
		FROM command_errors
		WHERE `+t.among("command_id", 1), texts(t.dialect, ids))
	if err != nil {
		return nil, fmt.Errorf("read error counts: %w", err)
	}
	errs := make(map[command.ID]map[string]int, len(ids))
	for _, r := range rows {
		if errs[r.ID] == nil {
			errs[r.ID] = map[string]int{}
		}
		errs[r.ID][r.Code] = r.N
	}
	return errs, nil
}

// commandsByID loads commands; those that do not exist are not there.
func (t *tx) commandsByID(ids []command.ID) ([]command.Command, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []commandRow
	err := t.list(&rows, `
		SELECT `+commandColumns+`
		FROM commands
		WHERE `+t.among("id", 1), texts(t.dialect, ids))
	if err != nil {
		return nil, fmt.Errorf("read commands: %w", err)
	}
	return t.domain(rows)
}

// commandByID loads one command; command.ErrNotFound when it does not exist.
func (t *tx) commandByID(id command.ID) (command.Command, error) {
	cs, err := t.commandsByID([]command.ID{id})
	if err != nil {
		return command.Command{}, err
	}
	if len(cs) == 0 {
		return command.Command{}, command.ErrNotFound
	}
	return cs[0], nil
}
