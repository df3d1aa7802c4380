package fleet

import (
	"context"
	"errors"
	"time"
)

// The errors that callers decide on.
var (
	ErrNotFound = errors.New("not found")
	ErrTaken    = errors.New("the id is taken") // in this or another tenant: ids are unique in the installation
	ErrInUse    = errors.New("devices still depend on it")
)

// Registry is the record as the fleet sees it. Lists are in order of ids; after is the last id of the page before.
// Disabling, deleting or moving a device touches its open operations in the same transaction: disabled and deleted
// devices' are cancelled, and what has not been sent follows a device that moved.
//
// Whatever changes something is done by an Actor, for the tenant of that actor, and has its Entry in the audit log, written in the
// same transaction.
type Registry interface {
	// CreateDevice adds d; mac is nil for a Meter. ErrTaken, ErrNotFound when its IPC is not one of its tenant's, or
	// *UnknownGroup.
	CreateDevice(ctx context.Context, by Actor, d Device, mac []byte) (Device, error)
	// UpdateDevice writes d over the device with its id; *UnknownGroup. touched lists the commands of which operations ended
	// or moved by it.
	UpdateDevice(ctx context.Context, by Actor, d Device) (updated Device, touched []string, err error)
	// DeleteDevice removes the device; ErrInUse for an IPC with meters.
	DeleteDevice(ctx context.Context, by Actor, id DeviceID) (touched []string, err error)
	SetSecret(ctx context.Context, by Actor, id DeviceID, mac []byte) error
	Device(ctx context.Context, t Tenant, id DeviceID) (Device, error)
	Devices(ctx context.Context, t Tenant, f DeviceFilter, after DeviceID, limit int) ([]Device, error)

	// Import asks next for all batches and then writes them in one transaction: all or nothing. next returns the next batch,
	// nil at the end, or an error, which is returned as it is.
	Import(ctx context.Context, by Actor, next func() ([]ImportRow, error)) (Imported, error)

	CreateGroup(ctx context.Context, by Actor, g Group) (Group, error)
	UpdateGroup(ctx context.Context, by Actor, name string, description string) (Group, error)
	DeleteGroup(ctx context.Context, by Actor, name string) error
	Group(ctx context.Context, t Tenant, name string) (Group, error)
	Groups(ctx context.Context, t Tenant, after string, limit int) ([]Group, error)
	// AddMembers and RemoveMembers change a group; unknown devices are an *UnknownDevices.
	AddMembers(ctx context.Context, by Actor, group string, ids []DeviceID) error
	RemoveMembers(ctx context.Context, by Actor, group string, ids []DeviceID) error
}

// Imported is what an import did. Touched lists the commands of which operations ended or moved by it.
type Imported struct {
	Created, Updated int
	Touched          []string
}

// UnknownDevices is the error of a list that names devices the tenant does not have.
type UnknownDevices struct {
	Indexes []int // into the list
}

func (e *UnknownDevices) Error() string { return "unknown devices in the list" }

// RowError is the error of an import: the row it is about, as counted by the importer.
type RowError struct {
	Line   int    // 1 is the first line of the input
	Field  string // "" when it is about the whole line
	Detail string
}

func (e *RowError) Error() string { return e.Detail }

// ImportRow is one device to create or, where it exists in the tenant, to update.
type ImportRow struct {
	Line   int
	Device Device
	MAC    []byte // nil: keep what there is
}

// DeviceFilter narrows a list of devices; zero fields do not.
type DeviceFilter struct {
	Q            string // part of the id or the name, whatever its case
	Tags         map[string]string
	Group        string
	Kind         Kind
	EndpointID   DeviceID
	NotReadSince time.Time
	// OnlyEndpoints, when not nil, keeps devices whose endpoint is in it (Online true) or is not (Online false).
	OnlyEndpoints []DeviceID
	Online        bool
}

// UserBook is where people are kept who sign in with a password. Names are unique in the installation.
type UserBook interface {
	// CreateUser adds u; ErrTaken. hash is what is kept of the password.
	CreateUser(ctx context.Context, by Actor, u User, hash []byte) (User, error)
	// UserByName finds a user with the hash of the password; ErrNotFound.
	UserByName(ctx context.Context, name string) (User, []byte, error)
	// Users lists the users of all tenants in order of their names, at most limit after the one given.
	Users(ctx context.Context, after string, limit int) ([]User, error)
	// DeleteUser removes a user of by's tenant and ends all sessions; ErrNotFound.
	DeleteUser(ctx context.Context, by Actor, name string) error
}

// SessionBook is where sign-in sessions are kept: only the SHA-256 of each secret.
type SessionBook interface {
	// CreateSession adds a session of whoever by is, and forgets those of all that are over.
	CreateSession(ctx context.Context, by Actor, s Session, hash []byte) error
	// SessionToken is what the session with this hash may do, as a token that ends when the session does; ErrNotFound when it is
	// over, or the user or the token that it came from is gone.
	SessionToken(ctx context.Context, hash []byte) (Token, error)
	// DeleteSession ends a session; ErrNotFound.
	DeleteSession(ctx context.Context, by Actor, hash []byte) error
}

// TokenBook is where API tokens are kept: only the SHA-256 of each secret.
type TokenBook interface {
	CreateToken(ctx context.Context, by Actor, t Token, hash []byte) (Token, error)
	// TokenByHash finds a token that is neither revoked nor expired; ErrNotFound otherwise.
	TokenByHash(ctx context.Context, hash []byte) (Token, error)
	Tokens(ctx context.Context, t Tenant, after string, limit int) ([]Token, error)
	DeleteToken(ctx context.Context, by Actor, id string) error
}
