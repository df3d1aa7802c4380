package store

import (
	"fmt"
	"time"

	"meterline/command"
	"meterline/fleet"
)

// The members of a group of up to fewMembers are asked one by one. Of a larger one there will be enough among what was made
// recently, as a rule, and they are asked when there is not.
const (
	fewMembers  = 500
	manyMembers = 1000
	recently    = 24 * time.Hour
)

// findInGroup reads the list of a group. Neither way of doing that is good for all groups: going through what there is
// until enough of it belongs to the group takes long for a group that was not asked lately, going through its members takes
// long for a large one.
func (t *tx) findInGroup(q operationQuery, branches []branch) ([]*command.Operation, error) {
	f := q.filter
	if !t.postgres || f.EndpointID != "" || f.Code != "" || (f.Kind != "" && f.Kind != command.MeterRead) {
		return t.amongAll(q, branches)
	}
	members, err := t.countMembers(q.tenant, f.Group, manyMembers+1)
	if err != nil {
		return nil, err
	}
	switch {
	case members == 0:
		return nil, nil
	case members > manyMembers && f.State != "" && f.State != command.Succeeded: // of which there are few, whosever they are
		return t.amongAll(q, branches)
	}
	if members > fewMembers {
		late := q
		if since := q.until().Add(-recently); since.After(f.From) {
			late.filter.From = since
		}
		ops, err := t.amongAll(late, branches)
		if err != nil || len(ops) == q.limit || late.filter.From.Equal(f.From) {
			return ops, err
		}
	}
	return t.byMember(q, branches)
}

// countMembers is how many devices a group has, most at the most.
func (t *tx) countMembers(tenant fleet.Tenant, group string, most int) (n int, err error) {
	err = t.get(&n, `
		SELECT count(*)
		FROM (SELECT 1 AS one FROM group_members WHERE tenant = $1 AND group_name = $2 LIMIT $3) AS found`, string(tenant), group, most)
	if err != nil {
		return 0, fmt.Errorf("count members: %w", err)
	}
	return n, nil
}

// until is a time that nothing in the list is later than.
func (q operationQuery) until() time.Time {
	end := q.now
	if to := q.filter.To; !to.IsZero() && to.Before(end) {
		end = to
	}
	if q.from != nil && q.from.At.Before(end) {
		end = q.from.At
	}
	return end
}

// amongAll goes through what there is, in the index alone where that knows enough.
func (t *tx) amongAll(q operationQuery, branches []branch) ([]*command.Operation, error) {
	w := &where{}
	parts := make([]string, len(branches))
	for i, b := range branches {
		w.conditions = nil
		q.narrow(w, t.DB)
		b(w)
		parts[i] = `SELECT created_at, seq, device_id FROM operations ` + w.sql() + ` ORDER BY ` + newestFirst + ` LIMIT ` + w.param(q.limit)
	}
	return t.named(q, w, parts)
}

// byMember asks member by member. What is in the list is of those members whose newest are the newest, as many as the list
// is long; and when there are so many, nothing is in it that is older than the newest of each.
func (t *tx) byMember(q operationQuery, branches []branch) ([]*command.Operation, error) {
	w := &where{}
	parts := make([]string, len(branches))
	members := q.filter.Group
	q.filter.Group = ""
	for i, b := range branches {
		w.conditions = nil
		q.narrow(w, t.DB)
		b(w)
		of := func(device, more string) string {
			return `SELECT created_at, seq FROM operations ` + w.sql() + ` AND device_id = ` + device + more + ` ORDER BY created_at DESC, seq DESC LIMIT `
		}
		limit := w.param(q.limit)
		parts[i] = `
			SELECT o.created_at, o.seq, late.device_id
			FROM (
				SELECT device_id, CASE WHEN count(*) OVER () >= ` + limit + ` THEN min(created_at) OVER () ELSE '-infinity' END AS since
				FROM (
					SELECT newest.created_at, newest.seq, m.device_id
					FROM group_members m
					CROSS JOIN LATERAL (` + of("m.device_id", "") + `1) AS newest
					WHERE m.tenant = ` + w.param(string(q.tenant)) + ` AND m.group_name = ` + w.param(members) + `
					ORDER BY ` + newestFirst + `
					LIMIT ` + limit + `) AS latest) AS late
			CROSS JOIN LATERAL (` + of("late.device_id", " AND created_at >= late.since") + limit + `) AS o
			ORDER BY ` + newestFirst + `
			LIMIT ` + limit
	}
	return t.named(q, w, parts)
}

// named loads the first of the operations that the parts name by created_at, seq and device_id, newest first.
func (t *tx) named(q operationQuery, w *where, parts []string) ([]*command.Operation, error) {
	limit := w.param(q.limit)
	return t.operations(`
		SELECT `+operationColumns("o")+`
		FROM (SELECT * FROM (`+merge(parts)+`) AS merged ORDER BY `+newestFirst+` LIMIT `+limit+`) AS k
		JOIN commands c ON c.seq = k.seq
		JOIN operations o ON o.command_id = c.id AND o.device_id = k.device_id
		ORDER BY o.created_at DESC, o.seq DESC, o.device_id DESC`, w.args...)
}
