package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/meterread"
)

// readyRounds bounds how often Ready looks past devices with much to do. Each round finds one more at least, and those
// that it found are busy when it is called again.
const readyRounds = 8

// Ready implements command.Ledger. It answers with one operation per device at most, since one may be in flight per
// device, and nothing that has less than two seconds left.
func (db *DB) Ready(ctx context.Context, heads []command.Head) (map[meterread.DeviceID]command.Front, error) {
	ready := make(map[meterread.DeviceID]command.Front, len(heads))
	err := db.single(ctx, func(t *tx) error {
		clear(ready)
		ask := make([]head, 0, len(heads))
		for _, h := range heads {
			if h.Limit > 0 {
				ask = append(ask, head{Head: h, room: h.Limit, busy: h.Busy})
			}
		}
		for range readyRounds {
			if len(ask) == 0 {
				return nil
			}
			rows, err := t.heads(ask)
			if err != nil {
				return err
			}
			ask = gather(ready, ask, rows)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look for what can be sent: %w", err)
	}
	return ready, nil
}

// head is one endpoint that is asked for.
type head struct {
	command.Head
	room int // how many more may be found
	busy []meterread.DeviceID
}

// gather takes the oldest operation of each device from the rows of each head. It answers with the heads that may have
// more: those whose rows were cut off, and that have room because of devices that came more than once.
func gather(ready map[meterread.DeviceID]command.Front, ask []head, rows [][]*command.Operation) []head {
	var more []head
	for i, h := range ask {
		cut := len(rows[i]) > h.room
		seen := map[meterread.DeviceID]bool{}
		found := h.busy[:len(h.busy):len(h.busy)]
		front := ready[h.Endpoint]
		front.More = front.More || cut
		for _, o := range rows[i][:min(h.room, len(rows[i]))] {
			if seen[o.DeviceID] {
				front.More = true
				continue
			}
			seen[o.DeviceID] = true
			found = append(found, o.DeviceID)
			front.Operations = append(front.Operations, o)
			h.room--
		}
		ready[h.Endpoint] = front
		if cut && h.room > 0 {
			h.busy = found
			more = append(more, h)
		}
	}
	return more
}

var headColumns = columns("v_endpoint text, v_partition bigint, v_limit bigint, v_priority bigint, v_busy text, v_n bigint")

// growing are the commands that are being expanded, which is next to nothing. They are looked for once for all operations: asked
// for each, the planner may go through all older commands of the tenant, of which it believes there are few while there were when it
// counted them.
func (d dialect) growing() string {
	return `WITH growing AS MATERIALIZED (
			SELECT seq, tenant, priority, expanded_to
			FROM commands
			WHERE expanding AND cancelled_at IS NULL AND expires_at > ` + d.clock(0) + `
				AND (not_before IS NULL OR not_before <= ` + d.clock(0) + `))`
}

// inTurn keeps an operation back while an older command of its tenant and priority has yet to get to its device: commands
// are first sent in order.
const inTurn = `NOT EXISTS (
			SELECT 1
			FROM growing g
			WHERE g.seq < operations.seq AND g.tenant = operations.tenant AND g.priority = operations.priority
				AND g.expanded_to < operations.device_id)`

// queueOrder is the order in which operations are sent.
const queueOrder = `priority DESC, seq, device_id`

// heads reads the head of each queue, in order. A queue is read no further than one beyond its limit, which says that there is more.
func (t *tx) heads(ask []head) ([][]*command.Operation, error) {
	rows := make([][]*command.Operation, len(ask))
	if !t.postgres {
		// SQLite's own clock knows milliseconds; an operation may be younger than that.
		now, err := t.now()
		if err != nil {
			return nil, err
		}
		for i, h := range ask {
			rows[i], err = t.operations(t.growing()+`
				SELECT `+operationColumns("")+`
				FROM operations
				WHERE outcome IS NULL AND partition = $1 AND endpoint_id = $2 AND priority >= $3
					AND state = 'queued' AND next_at <= $6 AND expires_at > $7
					AND NOT (`+t.among("device_id", 4)+`) AND `+inTurn+`
				ORDER BY `+queueOrder+`
				LIMIT $5`, h.Partition, string(h.Endpoint), h.MinPriority, texts(t.dialect, h.busy), h.room+1, timeText(now), timeText(now.Add(2*time.Second)))
			if err != nil {
				return nil, err
			}
		}
		return rows, nil
	}
	in := newInput(headColumns, len(ask))
	for i, h := range ask {
		in.add(string(h.Endpoint), h.Partition, h.room+1, h.MinPriority, texts(t.dialect, h.busy), i)
	}
	err := t.each(func(row scanner) error {
		var r operationRow
		var i int
		if err := r.scan(row, &i); err != nil {
			return err
		}
		o, err := r.operation()
		rows[i] = append(rows[i], o)
		return err
	}, t.growing()+`
		SELECT `+operationColumns("o")+`, v_n
		FROM `+t.relation(in.columns, 1)+`
		CROSS JOIN LATERAL (
			SELECT *
			FROM operations
			WHERE outcome IS NULL AND partition = v_partition AND endpoint_id = v_endpoint AND priority >= v_priority
				AND state = 'queued' AND next_at <= `+t.clock(0)+` AND expires_at > `+t.clock(2)+`
				AND device_id <> ALL (v_busy::text[]) AND `+inTurn+`
			ORDER BY `+queueOrder+`
			LIMIT v_limit) AS o
		ORDER BY v_n, o.priority DESC, o.seq, o.device_id`, in.args(t.dialect)...)
	return rows, err
}
