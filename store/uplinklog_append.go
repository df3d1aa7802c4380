package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"meterline/command"
)

// ErrLogFull is what UplinkLog.Append answers when a partition holds as many entries as it may that are not in the record
// yet: nothing is to be acknowledged until the workers have caught up.
var ErrLogFull = errors.New("the uplink log is full")

// What goes into one statement, whichever is reached first.
const (
	appendRows  = 5000
	appendBytes = 16 << 20
)

// Append puts entries in, in their order, and returns when they are committed. ErrLogFull means that none was put in; any
// other error that some may not have been, or that it is not known: the caller sends all of them again.
func (l *UplinkLog) Append(ctx context.Context, entries []command.Uplink) error {
	if len(entries) == 0 {
		return nil
	}
	err := l.append(ctx, entries)
	if err != nil {
		l.metrics.failed(err, len(entries))
		return fmt.Errorf("append %d uplinks: %w", len(entries), err)
	}
	l.metrics.appended.Add(float64(len(entries)))
	l.Signal()
	return nil
}

func (l *UplinkLog) append(ctx context.Context, entries []command.Uplink) error {
	coming := map[int]int64{}
	for _, e := range entries {
		coming[e.Partition]++
	}
	if err := l.checkRoom(ctx, coming); err != nil {
		return err
	}
	for len(entries) > 0 {
		n := cut(entries)
		if err := l.insert(ctx, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// cut is how many of the entries go into one statement, at least one.
func cut(entries []command.Uplink) int {
	bytes := 0
	for i, e := range entries[:min(len(entries), appendRows)] {
		bytes += len(e.Payload)
		if bytes > appendBytes && i > 0 {
			return i
		}
	}
	return min(len(entries), appendRows)
}

var uplinkColumns = columns(`v_n bigint, v_partition bigint, v_endpoint text, v_epoch bigint, v_gateway text, v_kind text, v_payload bytea,
	v_crc bigint`)

// insert commits entries with numbers in their order. The turn is taken before the first number is, and before the clock
// is read: sorting needs all rows, and there are none without the turn.
func (l *UplinkLog) insert(ctx context.Context, entries []command.Uplink) error {
	in := newInput(uplinkColumns, len(entries))
	for i, e := range entries {
		payload := e.Payload
		if payload == nil {
			payload = []byte{}
		}
		in.add(i, e.Partition, string(e.Endpoint), e.Epoch, e.Gateway, string(e.Kind), payload, checksum(e))
	}
	if l.db.postgres {
		return l.db.single(ctx, func(t *tx) error {
			_, err := t.exec(`
				WITH turn AS MATERIALIZED (SELECT pg_advisory_xact_lock($1), pg_notify('`+appendedChannel+`', ''))
				INSERT INTO uplink_log (partition, endpoint_id, epoch, gateway, kind, payload, crc, appended_at)
				SELECT v_partition, v_endpoint, v_epoch, v_gateway, v_kind, v_payload, v_crc, clock_timestamp()
				FROM turn, `+t.relation(uplinkColumns, 2)+`
				ORDER BY v_n`, in.args(t.dialect, t.logLock)...)
			return err
		})
	}
	return l.db.write(ctx, urgent, func(t *tx) error {
		now, err := t.now()
		if err != nil {
			return err
		}
		_, err = t.exec(`
			INSERT INTO uplink_log (partition, endpoint_id, epoch, gateway, kind, payload, crc, appended_at)
			SELECT v_partition, v_endpoint, v_epoch, v_gateway, v_kind, `+t.bytesOf("v_payload")+`, v_crc, $1
			FROM `+t.relation(uplinkColumns, 2)+`
			ORDER BY v_n`, in.args(t.dialect, at(now))...)
		return err
	})
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C (RFC 3720 B.4) of what is interpreted of an entry.
func checksum(e command.Uplink) int64 {
	head := make([]byte, 0, 128)
	head = append(head, e.Kind...)
	head = append(head, 0)
	head = append(head, e.Endpoint...)
	head = append(head, 0)
	head = binary.BigEndian.AppendUint64(head, uint64(e.Epoch))
	return int64(crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, e.Payload))
}
