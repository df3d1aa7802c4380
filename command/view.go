package command

import (
	"encoding/json"
	"slices"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// Status sums up a command.
type Status string

// The statuses. All but Running are final.
const (
	StatusRunning   Status = "running"
	StatusSucceeded Status = "succeeded" // all did
	StatusCancelled Status = "cancelled" // all ended so
	StatusExpired   Status = "expired"   // all ended so
	StatusFailed    Status = "failed"    // all failed or died
	StatusPartial   Status = "partial"   // anything else
)

// Open is how many operations have yet to end.
func (c Counts) Open() int { return c.Queued + c.Sent + c.Delivered + c.Accepted }

// Status sums the counts up.
func (c Counts) Status() Status {
	switch c.Total {
	case c.Succeeded:
		return StatusSucceeded
	case c.Cancelled:
		return StatusCancelled
	case c.Expired:
		return StatusExpired
	case c.Failed + c.Dead:
		return StatusFailed
	}
	if c.Open() > 0 {
		return StatusRunning
	}
	return StatusPartial
}

// Of is the counter of a state.
func (c *Counts) Of(s State) *int {
	switch s {
	case Queued:
		return &c.Queued
	case Sent:
		return &c.Sent
	case Delivered:
		return &c.Delivered
	case Accepted:
		return &c.Accepted
	case Succeeded:
		return &c.Succeeded
	case Failed:
		return &c.Failed
	case Expired:
		return &c.Expired
	case Cancelled:
		return &c.Cancelled
	}
	return &c.Dead
}

// View is a command as users see it; shape and names are those of the HTTP API and of the live state.
type View struct {
	ID         ID                `json:"id"`
	Tenant     fleet.Tenant      `json:"tenant"`
	ParentID   *ID               `json:"parent_id"` // of a retry or a replay
	Kind       Kind              `json:"kind"`
	Mode       Mode              `json:"mode"`
	Status     Status            `json:"status"`
	Priority   int               `json:"priority"`
	CreatedAt  time.Time         `json:"created_at"`
	NotBefore  *time.Time        `json:"not_before,omitempty"`
	ExpiresAt  time.Time         `json:"expires_at"`
	FinishedAt *time.Time        `json:"finished_at"`
	Items      []meterread.Item  `json:"items"`
	Params     json.RawMessage   `json:"params,omitempty"`
	Version    int64             `json:"version"`
	Counts     Counts            `json:"counts"`
	Errors     map[string]int    `json:"errors"`
	Operations []OperationView   `json:"operations,omitzero"`
	Encoded    []json.RawMessage `json:"-"` // in place of Operations, from a live state that has them as JSON
	Links      map[string]string `json:"links,omitempty"`
}

// OperationView is an operation as users see it. Version and State stay first: the live state compares them without
// decoding the rest.
type OperationView struct {
	Version      int64               `json:"version"`
	State        State               `json:"state"`
	CommandID    ID                  `json:"command_id"`
	DeviceID     meterread.DeviceID  `json:"device_id"`
	Device       fleet.Info          `json:"device"`
	Delivery     Delivery            `json:"delivery"`
	Attempts     int                 `json:"attempts"`
	Error        *Failure            `json:"error"`
	Readings     []meterread.Reading `json:"readings"`
	FromStock    bool                `json:"from_stock"`
	LateResultAt *time.Time          `json:"late_result_at"`
	UpdatedAt    time.Time           `json:"updated_at"`
	Changed      int64               `json:"changed"`
	Moves        []Move              `json:"moves,omitempty"`
}

// View shows c as it is recorded; At says what the deadline makes of it.
func (c Command) View() View {
	v := View{
		ID: c.ID, Tenant: c.Tenant, Kind: c.Kind, Mode: c.Mode, Status: c.Counts.Status(),
		Priority: c.Priority, CreatedAt: c.CreatedAt, NotBefore: optional(c.NotBefore), ExpiresAt: c.ExpiresAt,
		FinishedAt: optional(c.FinishedAt), Items: c.Items, Params: c.Params, Version: c.Version, Counts: c.Counts, Errors: c.Errors,
	}
	if c.ParentID != "" {
		v.ParentID = &c.ParentID
	}
	if v.Items == nil {
		v.Items = []meterread.Item{}
	}
	if v.Errors == nil {
		v.Errors = map[string]int{}
	}
	return v
}

// View shows o as it is recorded, with empty lists where there are none.
func (o *Operation) View() OperationView {
	v := OperationView{
		Version: o.Version, State: o.State, CommandID: o.CommandID, DeviceID: o.DeviceID, Device: o.Device, Delivery: o.Delivery,
		Attempts: o.Attempts, Error: o.Error, Readings: o.Readings, FromStock: o.FromStock,
		LateResultAt: optional(o.LateResultAt), UpdatedAt: o.UpdatedAt, Changed: o.Changed, Moves: o.Moves,
	}
	if v.Readings == nil {
		v.Readings = []meterread.Reading{}
	}
	if v.Device.Tags == nil {
		v.Device.Tags = map[string]string{}
	}
	if len(v.Device.Route) == 0 {
		v.Device.Route = json.RawMessage("[]")
	}
	return v
}

// At is v as it is to be shown at now, by the database's clock. Expiry is a fact before it is a write: from the deadline
// on whatever is open is shown as expired.
func (v View) At(now time.Time) View {
	if now.Before(v.ExpiresAt) || v.Counts.Open() == 0 {
		return v
	}
	v.Counts.Expired += v.Counts.Open()
	v.Counts.Queued, v.Counts.Sent, v.Counts.Delivered, v.Counts.Accepted = 0, 0, 0, 0
	v.Status = v.Counts.Status()
	v.FinishedAt = &v.ExpiresAt
	shown := make([]OperationView, len(v.Operations))
	for i, o := range v.Operations {
		shown[i] = o.At(now, v.ExpiresAt)
	}
	if v.Operations != nil {
		v.Operations = shown
	}
	return v
}

// At is v as it is to be shown at now, given its command's deadline.
func (v OperationView) At(now, deadline time.Time) OperationView {
	if v.State.Open() && !now.Before(deadline) {
		v.State, v.UpdatedAt = Expired, deadline
		if v.Moves != nil {
			v.Moves = append(slices.Clip(v.Moves), Move{State: Expired, At: deadline})
		}
	}
	return v
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
