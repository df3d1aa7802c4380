package store

import (
	"fmt"
	"strings"

	"meterline/command"
)

// operations are those of which a command in the list has one.
func (q commandQuery) operations() operationQuery {
	f := q.filter
	return operationQuery{tenant: q.tenant, now: q.now, filter: command.OperationFilter{DeviceID: f.DeviceID, EndpointID: f.EndpointID,
		Group: f.Group, State: f.State, Kind: f.Kind, CommandID: f.ID, Code: f.Code, From: f.From}}
}

// amongCommands goes through the commands, newest first.
func (t *tx) amongCommands(q commandQuery) ([]commandRow, error) {
	w := &where{}
	q.narrow(w)
	possible, err := t.narrowOperation(w, q)
	if err != nil || !possible {
		return nil, err
	}
	var rows []commandRow
	err = t.list(&rows, `SELECT `+commandColumns+` FROM commands `+w.sql()+` ORDER BY seq DESC LIMIT `+w.param(q.limit), w.args...)
	return rows, err
}

// amongRecent is amongCommands up to the one with the number oldest.
func (t *tx) amongRecent(q commandQuery, oldest int64) ([]commandRow, error) {
	w := &where{}
	q.narrow(w)
	w.and("seq > %s", oldest)
	recent := w.sql()
	w.conditions = nil
	possible, err := t.narrowOperation(w, q)
	if err != nil || !possible {
		return nil, err
	}
	var rows []commandRow
	err = t.list(&rows, `
		SELECT `+commandColumns+`
		FROM (SELECT * FROM commands `+recent+` ORDER BY seq DESC LIMIT `+w.param(recentCommands)+`) AS commands
		`+w.sql()+`
		ORDER BY seq DESC
		LIMIT `+w.param(q.limit), w.args...)
	return rows, err
}

// narrowOperation adds that the command has such an operation; possible is false when none does. A state alone is in the
// counts.
func (t *tx) narrowOperation(w *where, q commandQuery) (possible bool, err error) {
	o := q.operations()
	s := o.filter.State
	switch {
	case !q.filter.OfOperation():
		return true, nil
	case o.filter.DeviceID == "" && o.filter.EndpointID == "" && o.filter.Group == "" && o.filter.Code == "" && s.Open():
		w.and(`running AND expires_at > %s AND `+counted(s)+` > 0`, timeText(q.now))
		return true, nil
	case o.filter.DeviceID == "" && o.filter.EndpointID == "" && o.filter.Group == "" && o.filter.Code == "" && s == command.Succeeded:
		w.and(`succeeded > 0`)
		return true, nil
	}
	branches, err := t.stateBranches(q.tenant, o.filter, q.now)
	if err != nil || len(branches) == 0 {
		return false, err
	}
	outer := w.conditions
	var either []string
	for _, b := range branches {
		w.conditions = nil
		b(w)
		either = append(either, "("+strings.Join(append(w.conditions, "TRUE"), " AND ")+")")
	}
	w.conditions = nil
	o.filter.Kind, o.filter.CommandID = "", "" // as its command
	o.narrowOwn(w, t.DB)
	if q.filter.State != "" {
		w.conditions = append(w.conditions, "("+strings.Join(either, " OR ")+")")
	}
	w.conditions = append(outer, `EXISTS (SELECT 1 FROM operations `+w.sql()+` AND command_id = commands.id)`)
	return true, nil
}

// byOperation finds the numbers of commands by their operations, whose seq is that of the command, and then the commands,
// newest first. With members the group's devices are looked at one by one.
func (t *tx) byOperation(q commandQuery, members bool) ([]commandRow, error) {
	o := q.operations()
	branches, err := t.stateBranches(q.tenant, o.filter, q.now)
	if err != nil || len(branches) == 0 {
		return nil, err
	}
	w := &where{}
	source, group := `operations `, o.filter.Group
	if members {
		o.filter.Group = ""
		source = `(SELECT device_id AS v_member FROM group_members WHERE tenant = ` + w.param(string(q.tenant)) + ` AND group_name = ` + w.param(group) + `) AS members
				CROSS JOIN operations `
	}
	parts := make([]string, len(branches))
	for i, b := range branches {
		w.conditions = nil
		o.narrow(w, t.DB)
		q.narrowNumbers(w)
		b(w)
		if members {
			w.conditions = append(w.conditions, `device_id = v_member`)
		}
		parts[i] = `SELECT seq AS v_seq FROM ` + source + w.sql()
	}
	w.conditions = nil
	q.narrow(w)
	var rows []commandRow
	err = t.list(&rows, `
		SELECT `+commandColumns+`
		FROM (SELECT DISTINCT v_seq FROM (`+strings.Join(parts, ` UNION ALL `)+`) AS found ORDER BY v_seq DESC) AS numbers
		CROSS JOIN commands
		`+w.sql()+` AND seq = v_seq
		ORDER BY v_seq DESC
		LIMIT `+w.param(q.limit), w.args...)
	return rows, err
}

// recentCommands is among how many commands there will be enough of a group, as a rule.
const recentCommands = 3000

// commandsOfGroup looks among the newest commands first: there will be enough of a group that is large or asked often. For
// another one it looks at what its members did.
func (t *tx) commandsOfGroup(q commandQuery) ([]commandRow, error) {
	f := q.filter
	if f.EndpointID != "" || f.Code != "" || (f.State != "" && f.State != command.Succeeded) {
		return t.byOperation(q, false)
	}
	members, err := t.countMembers(q.tenant, f.Group, fewMembers+1)
	if err != nil || members == 0 {
		return nil, err
	}
	if members > fewMembers {
		top, err := t.newestNumber(q)
		if err != nil {
			return nil, err
		}
		rows, err := t.amongRecent(q, top-recentCommands)
		if err != nil || len(rows) == q.limit {
			return rows, err
		}
	}
	return t.byOperation(q, true)
}

// newestNumber is a number that no command in the list exceeds.
func (t *tx) newestNumber(q commandQuery) (top int64, err error) {
	switch {
	case q.from != nil:
		return q.from.Seq, nil
	case q.numbers.last != 0:
		return q.numbers.last, nil
	}
	if err := t.get(&top, `SELECT COALESCE(max(seq), 0) FROM commands`); err != nil {
		return 0, fmt.Errorf("look for the newest command: %w", err)
	}
	return top, nil
}
