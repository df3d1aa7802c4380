package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"meterline/meterread"
)

// CreateGroup adds an empty group; ErrTaken when the tenant has one of that name.
func (s *Service) CreateGroup(ctx context.Context, by Actor, name, description string) (Group, error) {
	wrong := &Invalid{}
	if !groupName.MatchString(name) {
		wrong.Add("/name", badGroupName)
	}
	checkText(wrong, "/description", description, maxText)
	if err := wrong.OrNil(); err != nil {
		return Group{}, err
	}
	g, err := s.registry.CreateGroup(ctx, by, Group{Name: name, Description: description})
	if err != nil {
		return Group{}, fmt.Errorf("create group: %w", err)
	}
	return g, nil
}

// DescribeGroup changes what a group says of itself.
func (s *Service) DescribeGroup(ctx context.Context, by Actor, name, description string) (Group, error) {
	wrong := &Invalid{}
	checkText(wrong, "/description", description, maxText)
	if err := wrong.OrNil(); err != nil {
		return Group{}, err
	}
	if err := knownGroupName(name); err != nil {
		return Group{}, err
	}
	g, err := s.registry.UpdateGroup(ctx, by, name, description)
	if err != nil {
		return Group{}, fmt.Errorf("describe group: %w", err)
	}
	return g, nil
}

// DeleteGroup removes a group; its devices stay.
func (s *Service) DeleteGroup(ctx context.Context, by Actor, name string) error {
	if err := knownGroupName(name); err != nil {
		return err
	}
	if err := s.registry.DeleteGroup(ctx, by, name); err != nil {
		return fmt.Errorf("delete group: %w", err)
	}
	return nil
}

// Group finds one group of the tenant.
func (s *Service) Group(ctx context.Context, t Tenant, name string) (Group, error) {
	if err := knownGroupName(name); err != nil {
		return Group{}, err
	}
	g, err := s.registry.Group(ctx, t, name)
	if err != nil {
		return Group{}, fmt.Errorf("find group: %w", err)
	}
	return g, nil
}

// knownGroupName spares the record names that no group can have.
func knownGroupName(name string) error {
	if !groupName.MatchString(name) {
		return fmt.Errorf("find group: %w", ErrNotFound)
	}
	return nil
}

// Groups lists groups in order of their names, at most limit after the one given.
func (s *Service) Groups(ctx context.Context, t Tenant, after string, limit int) ([]Group, error) {
	gs, err := s.registry.Groups(ctx, t, after, limit)
	if err != nil {
		return nil, fmt.Errorf("list groups: %w", err)
	}
	return gs, nil
}

// AddMembers puts devices into a group and answers with the group as it is then; those in it already stay. Devices that
// the tenant does not have are *Invalid, and nothing is changed.
func (s *Service) AddMembers(ctx context.Context, by Actor, group string, ids []DeviceID) (Group, error) {
	return s.changeMembers(ctx, by, group, ids, s.registry.AddMembers)
}

// RemoveMembers takes devices out of a group, in the manner of AddMembers.
func (s *Service) RemoveMembers(ctx context.Context, by Actor, group string, ids []DeviceID) (Group, error) {
	return s.changeMembers(ctx, by, group, ids, s.registry.RemoveMembers)
}

func (s *Service) changeMembers(ctx context.Context, by Actor, group string, ids []DeviceID,
	change func(context.Context, Actor, string, []DeviceID) error) (Group, error) {
	if err := knownGroupName(group); err != nil {
		return Group{}, err
	}
	wrong := &Invalid{}
	if len(ids) == 0 {
		wrong.Add("/device_ids", "must name at least one device")
	}
	for i, id := range ids {
		if _, err := meterread.ParseDeviceID(string(id)); err != nil {
			wrong.Add(fmt.Sprintf("/device_ids/%d", i), err.Error())
		}
	}
	if err := wrong.OrNil(); err != nil {
		return Group{}, err
	}
	ids = slices.Clone(ids)
	err := change(ctx, by, group, ids)
	if unknown, ok := errors.AsType[*UnknownDevices](err); ok {
		for _, i := range unknown.Indexes {
			wrong.Add(fmt.Sprintf("/device_ids/%d", i), "there is no such device")
		}
		return Group{}, wrong
	}
	if err != nil {
		return Group{}, fmt.Errorf("change members: %w", err)
	}
	return s.Group(ctx, by.Tenant, group)
}
