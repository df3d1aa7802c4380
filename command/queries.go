package command

import (
	"context"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// Book is the record as the service sees it: commands come in, everybody asks. All reads show a deadline that has passed
// as expired, and what has been shown so stays so (see Shown).
type Book interface {
	// Create commits c with its selector, its total and its first operations (up to first; the rest is expanded later)
	// and gives it its Seq, CreatedAt and Counts. Targets that cannot be are *Invalid. With an idempotency key used before:
	// the same body gives the command of then and replayed, another ErrKeyReused; ErrStillRunning after 2 s of waiting.
	// c.ExpiresAt is ttl after c.NotBefore where that is set, else after CreatedAt, which is the record's clock. born makes
	// operations from devices.
	Create(ctx context.Context, c Command, ttl time.Duration, key Idempotency, first int, born BornFunc) (made Created, err error)
	// Expand makes up to limit further operations of some command that is still expanding; found is false when there is
	// none. Several may call it at once.
	Expand(ctx context.Context, limit int, born BornFunc) (made Created, found bool, err error)
	// Cancel marks the command so that operations made later are born cancelled. The open ones are ended by Ledger.End.
	Cancel(ctx context.Context, by Actor, id ID) error
	// OpenOperations is how many operations of the tenant are open.
	OpenOperations(ctx context.Context, tenant fleet.Tenant) (int, error)

	// Snapshot reads a command with its first page operations in order of their devices, all of one moment.
	// whole is true when these are all and the command is not expanding.
	Snapshot(ctx context.Context, id ID, page int) (v View, tenant fleet.Tenant, whole bool, err error)
	// Shown records that the command was shown as expired: from now on no result can make it anything else. It does
	// nothing to a command that has ended or whose deadline has not passed.
	Shown(ctx context.Context, ids []ID) error
	FindCommands(ctx context.Context, tenant fleet.Tenant, f CommandFilter, p Page) (List[View], error)
	FindOperations(ctx context.Context, tenant fleet.Tenant, f OperationFilter, p Page) (List[OperationView], error)
	// ChangedSince lists operations of a command that moved after the version, in order of their Changed.
	ChangedSince(ctx context.Context, id ID, version int64, limit int) ([]OperationView, error)
	// Unsuccessful lists the devices of a command's operations that ended without success and can still be targets: they
	// exist and are enabled.
	Unsuccessful(ctx context.Context, tenant fleet.Tenant, id ID) ([]meterread.DeviceID, error)

	Readings(ctx context.Context, tenant fleet.Tenant, f ReadingFilter, p Page) (List[meterread.Reading], error)
	// Owns is nil when the device is the tenant's, else ErrNotFound.
	Owns(ctx context.Context, tenant fleet.Tenant, d meterread.DeviceID) error
	// Latest is the newest reading of each item of a device, in order of the items.
	Latest(ctx context.Context, tenant fleet.Tenant, d meterread.DeviceID) ([]meterread.Reading, error)
	Events(ctx context.Context, tenant fleet.Tenant, f EventFilter, p Page) (List[Event], error)
	LetterBook
}

// BornFunc makes the operation of a command on a device; see Born.
type BornFunc func(c Command, d Candidate, now time.Time) *Operation

// Idempotency is a request's key and the hash of its body; an empty Key means none was given.
type Idempotency struct {
	Key      string
	BodyHash []byte
}

// Created is a command with the operations that one transaction made.
type Created struct {
	Command    Command
	Operations []*Operation
	Replayed   bool // Command was there before; Operations is empty
}

// Page asks for a part of a list: at most Limit items after Cursor, which is what the list before gave as next.
type Page struct {
	Limit  int
	Cursor string
}

// List is a part of a list. NextCursor is "" when there is no more.
type List[T any] struct {
	Items      []T
	NextCursor string
}

// OperationFilter narrows a list of operations; zero fields do not.
type OperationFilter struct {
	DeviceID   meterread.DeviceID
	EndpointID meterread.DeviceID
	Group      string
	State      State
	Kind       Kind
	CommandID  ID
	Code       string
	From, To   time.Time // of the operation's creation: [From, To)
}

// CommandFilter narrows a list of commands; zero fields do not.
type CommandFilter struct {
	ID       ID
	Kind     Kind
	Status   Status
	From, To time.Time // of the command's creation: [From, To)

	// Of one and the same of its operations. A group's members are those of now.
	DeviceID   meterread.DeviceID
	EndpointID meterread.DeviceID
	Group      string
	State      State
	Code       string
}

// OfOperation says whether f asks for an operation.
func (f CommandFilter) OfOperation() bool {
	return f.DeviceID != "" || f.EndpointID != "" || f.Group != "" || f.State != "" || f.Code != ""
}

// ReadingFilter narrows a list of readings. DeviceID is required.
type ReadingFilter struct {
	DeviceID meterread.DeviceID
	Item     meterread.Item
	From, To time.Time // of ReadAt: [From, To)
}

// EventFilter narrows a list of events; zero fields do not.
type EventFilter struct {
	DeviceID meterread.DeviceID
	Type     string
	From, To time.Time // of ReceivedAt: [From, To)
}
