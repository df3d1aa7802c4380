package store

import (
	"context"
	"fmt"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
)

// replayBytes bounds the payloads of the letters that are handled again in one transaction.
const replayBytes = 1 << 20

// Replays implements command.Letters.
func (db *DB) Replays(ctx context.Context, partitions []int, limit int) ([]command.Replay, error) {
	var replays []command.Replay
	err := db.single(ctx, func(t *tx) error {
		ids, err := t.waitingReplays(partitions, limit)
		if err != nil || len(ids) == 0 {
			return err
		}
		var rows []letterRow
		err = t.list(&rows, `
			SELECT `+letterNames(0)+`, replay_in
			FROM dead_letters
			WHERE `+t.among("id", 1)+` AND replay_in IS NOT NULL
			ORDER BY created_at, id`, texts(t.dialect, ids))
		replays = make([]command.Replay, len(rows))
		for i, r := range rows {
			replays[i] = command.Replay{DeadLetter: r.letter(), Partition: r.ReplayIn}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list replays: %w", err)
	}
	return replays, nil
}

// waitingReplays are the ids of those that wait longest, as many as one transaction takes.
func (t *tx) waitingReplays(partitions []int, limit int) ([]string, error) {
	var waiting []struct {
		ID    string `db:"id"`
		Bytes int    `db:"bytes"`
	}
	err := t.list(&waiting, `
		SELECT id, bytes
		FROM dead_letters
		WHERE replay_in IS NOT NULL AND `+t.amongInts("replay_in", 1)+`
		ORDER BY created_at, id
		LIMIT $2`, ints(t.dialect, partitions), limit)
	if err != nil {
		return nil, err
	}
	var ids []string
	bytes := 0
	for _, l := range waiting {
		if bytes += l.Bytes; bytes > replayBytes && len(ids) > 0 {
			break
		}
		ids = append(ids, l.ID)
	}
	return ids, nil
}

// lockReplays finds out which of the letters still wait to be handled again.
func (t *tx) lockReplays(x *command.Tx, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	var waiting []string
	err := t.list(&waiting, `
		SELECT id
		FROM dead_letters
		WHERE `+t.among("id", 1)+` AND replay_in IS NOT NULL
		ORDER BY id`+t.lock("FOR UPDATE"), texts(t.dialect, ids))
	if err != nil {
		return fmt.Errorf("lock replays: %w", err)
	}
	x.Replays = make(map[string]struct{}, len(waiting))
	for _, id := range waiting {
		x.Replays[id] = struct{}{}
	}
	return nil
}

var handledColumns = columns(`v_id text, v_again bigint`)

// endReplays takes what was handled again out of the queue, and notes how many letters each has left.
func (t *tx) endReplays(now time.Time, x *command.Tx) error {
	if len(x.Replays) == 0 {
		return nil
	}
	again := map[string]int{}
	for _, l := range x.DeadLetters {
		if l.ParentID != "" {
			again[l.ParentID]++
		}
	}
	in := newInput(handledColumns, len(x.Replays))
	for id := range x.Replays {
		in.add(id, again[id])
	}
	_, err := t.exec(`
		UPDATE dead_letters
		SET replay_in = NULL, handled_at = $1, again = v_again
		FROM `+t.relation(in.columns, 2)+`
		WHERE id = v_id`, in.args(t.dialect, at(now))...)
	if err != nil {
		return fmt.Errorf("end replays: %w", err)
	}
	return nil
}

// countLetters counts the open dead letters of endpoints' uplinks.
func (t *tx) countLetters(x *command.Tx, endpoints []meterread.DeviceID) error {
	if len(endpoints) == 0 {
		return nil
	}
	x.Letters = make(map[meterread.DeviceID]command.LetterLoad, len(endpoints))
	for _, e := range endpoints {
		x.Letters[e] = command.LetterLoad{}
	}
	err := t.each(func(row scanner) error {
		var endpoint fleet.DeviceID
		var load command.LetterLoad
		err := row.Scan(&endpoint, &load.Letters, &load.Bytes)
		x.Letters[endpoint] = load
		return err
	}, `
		SELECT endpoint_id, count(*), sum(bytes)
		FROM dead_letters
		WHERE status = 'open' AND source = 'uplink' AND `+t.among("endpoint_id", 1)+`
		GROUP BY endpoint_id`, texts(t.dialect, endpoints))
	if err != nil {
		return fmt.Errorf("count open dead letters: %w", err)
	}
	return nil
}
