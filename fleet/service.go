package fleet

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"meterline/fault"
)

// Service is the fleet as people and programs ask for it: it checks what they say, makes secrets and keeps them to
// itself, and leaves the rest to the Registry. It is safe for concurrent use.
type Service struct {
	registry Registry
	tokens   TokenBook
	users    UserBook
	sessions SessionBook
	cost     int // of hashing a password
	hashing  chan struct{}
	nobody   sync.Once
	nobodys  []byte
	pepper   Pepper
	now      func() time.Time
	touched  func(ctx context.Context, commands []string)
}

// Options is what a Service is made of.
type Options struct {
	Registry Registry
	Tokens   TokenBook
	Users    UserBook
	Sessions SessionBook
	Pepper   Pepper
	Now      func() time.Time // nil: time.Now
	// PasswordCost is how hard passwords are to guess, by bcrypt; 0: 12, a quarter of a second each. Tests set less.
	PasswordCost int
	// Touched, when not nil, is told the commands of which operations ended or moved because a device was changed, after
	// that was committed. It must not block for long.
	Touched func(ctx context.Context, commands []string)
}

// NewService makes a Service.
func NewService(o Options) *Service {
	s := &Service{registry: o.Registry, tokens: o.Tokens, users: o.Users, sessions: o.Sessions, cost: cmp.Or(o.PasswordCost, passwordCost),
		hashing: make(chan struct{}, hashedAtOnce), pepper: o.Pepper, now: o.Now, touched: o.Touched}
	if s.now == nil {
		s.now = fault.Now
	}
	if s.touched == nil {
		s.touched = func(context.Context, []string) {}
	}
	return s
}

// Credentials is what an endpoint signs in with. The password is shown once and never again.
type Credentials struct {
	ClientID string `json:"client_id"`
	Username string `json:"username"`
	Password string `json:"password"`
}

func credentials(id DeviceID, secret string) *Credentials {
	return &Credentials{ClientID: string(id), Username: string(id), Password: secret}
}

// NewDevice is a device to be created.
type NewDevice struct {
	ID         DeviceID          `json:"id" pattern:"^[A-Za-z0-9._-]{1,64}$" doc:"unique in the installation"`
	Name       string            `json:"name,omitempty" maxLength:"200"`
	Kind       Kind              `json:"kind" enum:"direct,ipc,meter"`
	EndpointID DeviceID          `json:"endpoint_id,omitempty" doc:"of a meter: the IPC that speaks for it; of others: themselves"`
	Route      json.RawMessage   `json:"route,omitempty" doc:"of a meter: the hops from its IPC to it, at least one"`
	Tags       map[string]string `json:"tags,omitempty"`
	Groups     []string          `json:"groups,omitempty" doc:"groups that exist"`
	Enabled    *bool             `json:"enabled,omitempty" doc:"true when not given"`
}

// CreateDevice adds a device. A direct device or an IPC gets a secret, which is answered this once; a meter has none.
// Complaints are *Invalid; an id that is in use, by whomever, is ErrTaken.
func (s *Service) CreateDevice(ctx context.Context, by Actor, n NewDevice) (Device, *Credentials, error) {
	d := Device{ID: n.ID, Tenant: by.Tenant, Name: n.Name, Kind: n.Kind, EndpointID: n.EndpointID, Route: n.Route, Tags: n.Tags,
		Groups: n.Groups, Enabled: n.Enabled == nil || *n.Enabled}
	d = d.withDefaults()
	wrong := &Invalid{}
	d.check(wrong)
	if len(wrong.Fields) == 0 {
		if err := s.checkPlace(ctx, d, wrong); err != nil {
			return Device{}, nil, fmt.Errorf("create device: %w", err)
		}
	}
	if err := wrong.OrNil(); err != nil {
		return Device{}, nil, err
	}
	var mac []byte
	var shown *Credentials
	if d.Kind != Meter {
		secret := NewSecret()
		mac, shown = s.pepper.MAC(secret), credentials(d.ID, secret)
	}
	made, err := s.registry.CreateDevice(ctx, by, d, mac)
	if errors.Is(err, ErrNotFound) {
		return Device{}, nil, &Invalid{Fields: []FieldError{{"/endpoint_id", notAnIPC}}}
	}
	if err != nil {
		return Device{}, nil, fmt.Errorf("create device: %w", d.pointOut(err))
	}
	return made, shown, nil
}

const (
	notAnIPC    = "must be an IPC of the same tenant"
	noSuchGroup = "there is no such group"
)

// pointOut makes *Invalid of an *UnknownGroup, that of a group which was deleted after checkPlace had seen it.
func (d Device) pointOut(err error) error {
	unknown, ok := errors.AsType[*UnknownGroup](err)
	if !ok {
		return err
	}
	i := slices.Index(d.Groups, unknown.Name)
	if i < 0 {
		return err
	}
	return &Invalid{Fields: []FieldError{{fmt.Sprintf("/groups/%d", i), noSuchGroup}}}
}

// checkPlace complains about an endpoint that is no IPC and about groups that do not exist.
func (s *Service) checkPlace(ctx context.Context, d Device, wrong *Invalid) error {
	if d.Kind == Meter {
		ipc, err := s.registry.Device(ctx, d.Tenant, d.EndpointID)
		switch {
		case errors.Is(err, ErrNotFound), err == nil && ipc.Kind != IPC:
			wrong.Add("/endpoint_id", notAnIPC)
		case err != nil:
			return err
		}
	}
	for i, name := range d.Groups {
		_, err := s.registry.Group(ctx, d.Tenant, name)
		switch {
		case errors.Is(err, ErrNotFound):
			wrong.Add(fmt.Sprintf("/groups/%d", i), noSuchGroup)
		case err != nil:
			return err
		}
	}
	return nil
}

// DevicePatch changes a device; what is nil stays as it is.
type DevicePatch struct {
	Name       *string
	EndpointID *DeviceID
	Route      json.RawMessage
	NoTags     bool               // drop all tags before Tags is applied
	Tags       map[string]*string // nil drops the tag
	Groups     *[]string
	Enabled    *bool
}

// patchTries is how often a patch is made when groups that it does not speak of are deleted at the same time.
const patchTries = 3

// PatchDevice changes a device. Disabling it cancels its open operations; moving it takes along what has not been sent.
func (s *Service) PatchDevice(ctx context.Context, by Actor, id DeviceID, p DevicePatch) (Device, error) {
	var updated Device
	var touched []string
	var err error
	for range patchTries {
		updated, touched, err = s.patch(ctx, by, id, p)
		if _, gone := errors.AsType[*UnknownGroup](err); !gone {
			break
		}
	}
	if err != nil {
		return Device{}, fmt.Errorf("patch device: %w", err)
	}
	s.touch(ctx, touched)
	return updated, nil
}

// patch is one try of PatchDevice. *UnknownGroup is the error of a group that the device was in and that has been deleted
// since.
func (s *Service) patch(ctx context.Context, by Actor, id DeviceID, p DevicePatch) (Device, []string, error) {
	d, err := s.registry.Device(ctx, by.Tenant, id)
	if err != nil {
		return Device{}, nil, err
	}
	d = p.apply(d).withDefaults()
	wrong := &Invalid{}
	d.check(wrong)
	if len(wrong.Fields) == 0 && (p.EndpointID != nil || p.Groups != nil) {
		if err := s.checkPlace(ctx, d, wrong); err != nil {
			return Device{}, nil, err
		}
	}
	if err := wrong.OrNil(); err != nil {
		return Device{}, nil, err
	}
	updated, touched, err := s.registry.UpdateDevice(ctx, by, d)
	if p.Groups != nil {
		err = d.pointOut(err)
	}
	return updated, touched, err
}

// touch tells of commands that a change of a device moved; the caller's request may be over by then.
func (s *Service) touch(ctx context.Context, commands []string) {
	if len(commands) > 0 {
		s.touched(context.WithoutCancel(ctx), commands)
	}
}

func (p DevicePatch) apply(d Device) Device {
	if p.Name != nil {
		d.Name = *p.Name
	}
	if p.EndpointID != nil {
		d.EndpointID = *p.EndpointID
	}
	if p.Route != nil {
		d.Route = p.Route
	}
	if p.Groups != nil {
		d.Groups = *p.Groups
	}
	if p.Enabled != nil {
		d.Enabled = *p.Enabled
	}
	tags := map[string]string{}
	if !p.NoTags {
		for k, v := range d.Tags {
			tags[k] = v
		}
	}
	for k, v := range p.Tags {
		if v == nil {
			delete(tags, k)
		} else {
			tags[k] = *v
		}
	}
	d.Tags = tags
	return d
}

// DeleteDevice removes a device and cancels its open operations; ErrInUse for an IPC with meters.
func (s *Service) DeleteDevice(ctx context.Context, by Actor, id DeviceID) error {
	touched, err := s.registry.DeleteDevice(ctx, by, id)
	if err != nil {
		return fmt.Errorf("delete device: %w", err)
	}
	s.touch(ctx, touched)
	return nil
}

// RotateCredentials gives a direct device or an IPC a new secret, answered this once. The old one is refused, and
// sessions that came in by it are ended, within 5 s.
func (s *Service) RotateCredentials(ctx context.Context, by Actor, id DeviceID) (Device, *Credentials, error) {
	d, err := s.registry.Device(ctx, by.Tenant, id)
	if err != nil {
		return Device{}, nil, fmt.Errorf("rotate credentials: %w", err)
	}
	if d.Kind == Meter {
		return Device{}, nil, &Invalid{Fields: []FieldError{{"", "a meter has no credentials: its IPC signs in"}}}
	}
	secret := NewSecret()
	if err := s.registry.SetSecret(ctx, by, id, s.pepper.MAC(secret)); err != nil {
		return Device{}, nil, fmt.Errorf("rotate credentials: %w", err)
	}
	return d, credentials(id, secret), nil
}

// Device finds one device of the tenant; ErrNotFound otherwise.
func (s *Service) Device(ctx context.Context, t Tenant, id DeviceID) (Device, error) {
	d, err := s.registry.Device(ctx, t, id)
	if err != nil {
		return Device{}, fmt.Errorf("find device: %w", err)
	}
	return d, nil
}

// Devices lists devices in order of their ids, at most limit after the one given.
func (s *Service) Devices(ctx context.Context, t Tenant, f DeviceFilter, after DeviceID, limit int) ([]Device, error) {
	ds, err := s.registry.Devices(ctx, t, f, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return ds, nil
}
