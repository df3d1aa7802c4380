package fleet

import (
	"encoding/json"
	"time"
)

// Action is what was done, as the audit log calls it.
type Action string

// The actions. Those of commands that were issued are read from the commands themselves.
const (
	DeviceCreate      Action = "device.create"
	DeviceUpdate      Action = "device.update"
	DeviceDelete      Action = "device.delete"
	DeviceCredentials Action = "device.credentials"
	DeviceImport      Action = "device.import"
	GroupCreate       Action = "group.create"
	GroupUpdate       Action = "group.update"
	GroupDelete       Action = "group.delete"
	GroupAdd          Action = "group.add"
	GroupRemove       Action = "group.remove"
	TokenCreate       Action = "token.create"
	TokenDelete       Action = "token.delete"
	UserCreate        Action = "user.create"
	UserDelete        Action = "user.delete"
	SessionCreate     Action = "session.create"
	SessionDelete     Action = "session.delete"
	CommandIssue      Action = "command.issue"
	CommandRetry      Action = "command.retry"
	CommandCancel     Action = "command.cancel"
	LetterReplay      Action = "dead_letter.replay"
	LetterDiscard     Action = "dead_letter.discard"
)

// Actions lists every action there is.
var Actions = []Action{DeviceCreate, DeviceUpdate, DeviceDelete, DeviceCredentials, DeviceImport, GroupCreate, GroupUpdate,
	GroupDelete, GroupAdd, GroupRemove, TokenCreate, TokenDelete, UserCreate, UserDelete, SessionCreate, SessionDelete, CommandIssue, CommandRetry, CommandCancel, LetterReplay, LetterDiscard}

// ObjectKind is what kind of thing something was done to.
type ObjectKind string

// The kinds of objects.
const (
	OnDevice  ObjectKind = "device"
	OnGroup   ObjectKind = "group"
	OnToken   ObjectKind = "token"
	OnUser    ObjectKind = "user"
	OnSession ObjectKind = "session"
	OnCommand ObjectKind = "command"
	OnLetter  ObjectKind = "dead_letter"
)

// ObjectKinds lists every kind of object there is.
var ObjectKinds = []ObjectKind{OnDevice, OnGroup, OnToken, OnUser, OnSession, OnCommand, OnLetter}

// Entry is one line of the audit log.
type Entry struct {
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Tenant    Tenant          `json:"tenant"`
	Actor     EntryActor      `json:"actor"`
	Action    Action          `json:"action"`
	Object    EntryObject     `json:"object"`
	RequestID string          `json:"request_id" doc:"of the request that did it; empty when there was none"`
	Remote    string          `json:"remote" doc:"where the request came from: an address with a port, or the host of the command line"`
	Before    json.RawMessage `json:"before" doc:"the object as it was; null when there was none, or nothing to say"`
	After     json.RawMessage `json:"after" doc:"the object as it became, or for many at once what was done to how many"`
}

// EntryActor is who did it.
type EntryActor struct {
	Kind ActorKind `json:"kind"`
	ID   string    `json:"id"`
	Name string    `json:"name" doc:"as it was then"`
}

// EntryObject is what it was done to.
type EntryObject struct {
	Kind ObjectKind `json:"kind"`
	ID   string     `json:"id" doc:"empty when it was done to many at once"`
}

// AuditFilter narrows the audit log; zero fields do not.
type AuditFilter struct {
	Actor      string // an id or a name
	Action     Action
	ObjectKind ObjectKind
	ObjectID   string
	From, To   time.Time // [From, To)
}

// Change is what an entry says of what was done: to what, and what became of it. Never a secret.
type Change struct {
	Action        Action
	Kind          ObjectKind
	ID            string
	Before, After any // nil, or what is written as JSON
}

// MembersChange is how the audit log shows members of a group that came or went: all are counted, the first are named.
type MembersChange struct {
	Devices   int        `json:"devices"`
	DeviceIDs []DeviceID `json:"device_ids"`
}

// shownMembers is how many members an entry names.
const shownMembers = 100

// ChangeOfMembers is the entry for members that came or went.
func ChangeOfMembers(ids []DeviceID) MembersChange {
	return MembersChange{Devices: len(ids), DeviceIDs: ids[:min(len(ids), shownMembers)]}
}

// ImportChange is how the audit log shows an import.
type ImportChange struct {
	Created int `json:"created"`
	Updated int `json:"updated"`
}

// LettersChange is how the audit log shows dead letters that were decided together.
type LettersChange struct {
	DecisionID string `json:"decision_id"`
	Letters    int    `json:"letters"`
	CommandID  string `json:"command_id,omitempty"`
}
