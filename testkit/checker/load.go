package checker

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// load reads everything but the readings, which are read when they are judged.
func (s *system) load(ctx context.Context) (*record, error) {
	r := &record{readings: s.readings, sums: map[string]sum{}, hashes: map[string]hash{}, latest: map[string]map[string]string{}}
	if err := s.db.QueryRowContext(ctx, `SELECT clock_timestamp()`).Scan(&r.now); err != nil {
		return nil, fmt.Errorf("read the clock: %w", err)
	}
	for what, load := range map[string]func(context.Context, *record) error{
		"commands": s.commands, "operations": s.operations, "keys": s.keys, "dead letters": s.letters, "events": s.events,
		"sums": s.sums, "tenants": s.strays,
	} {
		if err := load(ctx, r); err != nil {
			return nil, fmt.Errorf("load %s: %w", what, err)
		}
	}
	if s.live == nil {
		return r, nil
	}
	if err := s.hashes(ctx, r); err != nil {
		return nil, fmt.Errorf("load the live state: %w", err)
	}
	return r, nil
}

// rows runs a query and calls scan for each row.
func (s *system) rows(ctx context.Context, query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

var countedStates = []string{"sent", "delivered", "accepted", "succeeded", "failed", "expired", "cancelled", "dead"}

func (s *system) commands(ctx context.Context, r *record) error {
	return s.rows(ctx, `
		SELECT id, tenant, total, running, finished_at IS NOT NULL, expires_at, version, shown_expired,
			sent, delivered, accepted, succeeded, failed, expired, cancelled, dead
		FROM commands
		WHERE tenant <> ALL ($1)`, func(rows *sql.Rows) error {
		var c commandRow
		n := make([]int, len(countedStates))
		err := rows.Scan(&c.id, &c.tenant, &c.total, &c.running, &c.finished, &c.expires, &c.version, &c.shownExpired,
			&n[0], &n[1], &n[2], &n[3], &n[4], &n[5], &n[6], &n[7])
		c.counts = map[string]int{}
		for i, state := range countedStates {
			c.counts[state] = n[i]
		}
		r.commands = append(r.commands, c)
		return err
	}, s.except)
}

func (s *system) operations(ctx context.Context, r *record) error {
	return s.rows(ctx, `
		SELECT command_id, device_id, tenant, state, delivery, open, from_stock, late_result_at IS NOT NULL, priority, seq, version,
			COALESCE(error_code, ''), expires_at, moves
		FROM operations
		WHERE tenant <> ALL ($1)`, func(rows *sql.Rows) error {
		var o operationRow
		var moves []byte
		err := rows.Scan(&o.command, &o.opKey.device, &o.tenant, &o.state, &o.delivery, &o.open, &o.fromStock, &o.late, &o.priority, &o.seq,
			&o.version, &o.code, &o.expires, &moves)
		if err == nil {
			err = json.Unmarshal(moves, &o.moves)
		}
		r.operations = append(r.operations, o)
		return err
	}, s.except)
}

func (s *system) keys(ctx context.Context, r *record) error {
	return s.rows(ctx, `SELECT tenant, key, command_id FROM idempotency WHERE tenant <> ALL ($1)`, func(rows *sql.Rows) error {
		var k keyRow
		err := rows.Scan(&k.tenant, &k.key, &k.command)
		r.keys = append(r.keys, k)
		return err
	}, s.except)
}

func (s *system) letters(ctx context.Context, r *record) error {
	return s.rows(ctx, `SELECT id, source, cause, endpoint_id, device_id, command_id, COALESCE(payload, ''::bytea) FROM dead_letters WHERE tenant <> ALL ($1)`,
		func(rows *sql.Rows) error {
			var l letterRow
			err := rows.Scan(&l.id, &l.source, &l.cause, &l.endpoint, &l.device, &l.command, &l.payload)
			r.letters = append(r.letters, l)
			return err
		}, s.except)
}

func (s *system) events(ctx context.Context, r *record) error {
	return s.rows(ctx, `SELECT endpoint_id, device_id, type, at, tenant FROM events WHERE tenant <> ALL ($1)`, func(rows *sql.Rows) error {
		var e eventRow
		var at time.Time
		err := rows.Scan(&e.endpoint, &e.device, &e.kind, &at, &e.tenant)
		e.at = at.UnixMicro()
		r.events = append(r.events, e)
		return err
	}, s.except)
}

// stored is how many readings there are, also of tenants that are not of the run: processes count them all.
func (s *system) stored(ctx context.Context) (n int, err error) {
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM readings`).Scan(&n); err != nil {
		return 0, fmt.Errorf("count readings: %w", err)
	}
	return n, nil
}

func (s *system) sums(ctx context.Context, r *record) error {
	return s.rows(ctx, `SELECT device_id, count(*), sum(value::numeric)::text FROM readings WHERE tenant <> ALL ($1) GROUP BY device_id`, func(rows *sql.Rows) error {
		var device string
		var one sum
		err := rows.Scan(&device, &one.n, &one.total)
		r.sums[device] = one
		return err
	}, s.except)
}

// strays are rows whose tenant is not that of what they are about; some of each kind are enough.
func (s *system) strays(ctx context.Context, r *record) error {
	return s.rows(ctx, `
		(SELECT 'reading of ' || r.device_id FROM readings r JOIN devices d ON d.id = r.device_id WHERE r.tenant <> d.tenant LIMIT 5)
		UNION ALL
		(SELECT 'operation ' || o.command_id || '/' || o.device_id FROM operations o JOIN devices d ON d.id = o.device_id
			JOIN commands c ON c.id = o.command_id WHERE o.tenant <> d.tenant OR o.tenant <> c.tenant LIMIT 5)
		UNION ALL
		(SELECT 'event of ' || e.device_id FROM events e JOIN devices d ON d.id = e.device_id WHERE e.tenant <> d.tenant LIMIT 5)
		UNION ALL
		(SELECT 'dead letter ' || l.id FROM dead_letters l JOIN devices d ON d.id = l.endpoint_id WHERE l.tenant <> d.tenant LIMIT 5)`,
		func(rows *sql.Rows) error {
			var text string
			err := rows.Scan(&text)
			r.strays = append(r.strays, text)
			return err
		})
}

// readings streams all of them, revisions of one time in their order.
func (s *system) readings(ctx context.Context) iter.Seq2[readingRow, error] {
	return func(yield func(readingRow, error) bool) {
		err := s.rows(ctx, `
			SELECT device_id, item, read_at, value, unit, COALESCE(command_id, ''), tenant, revision, late
			FROM readings
			WHERE tenant <> ALL ($1)
			ORDER BY device_id, item, read_at, revision`, func(rows *sql.Rows) error {
			var r readingRow
			var at time.Time
			if err := rows.Scan(&r.device, &r.item, &at, &r.value, &r.unit, &r.command, &r.tenant, &r.revision, &r.late); err != nil {
				return err
			}
			r.at = at.UnixMicro()
			if !yield(r, nil) {
				return errEnough
			}
			return nil
		}, s.except)
		if err != nil && !errors.Is(err, errEnough) {
			yield(readingRow{}, fmt.Errorf("load readings: %w", err))
		}
	}
}

// errEnough ends a query whose reader has enough.
var errEnough = errors.New("enough")

// hashes reads what the live state holds as a whole.
func (s *system) hashes(ctx context.Context, r *record) error {
	mark, err := s.mark(ctx)
	if err != nil {
		return err
	}
	for _, c := range r.commands {
		h, whole, err := s.hash(ctx, "meterline:command:{"+c.id+"}", mark)
		if err != nil {
			return err
		}
		if whole {
			r.hashes[c.id] = h
		}
	}
	for device := range r.sums {
		key := "meterline:latest:{" + device + "}"
		held, err := s.live.HGet(ctx, key+":meta", "complete").Result()
		if errors.Is(err, redis.Nil) || err == nil && held != mark {
			continue
		}
		if err != nil {
			return err
		}
		fields, err := s.live.HGetAll(ctx, key).Result()
		if err != nil {
			return err
		}
		items := map[string]string{}
		for item, text := range fields {
			var one struct {
				Value string `json:"value"`
			}
			if err := json.Unmarshal([]byte(text), &one); err != nil {
				return fmt.Errorf("%s %s: %w", key, item, err)
			}
			items[item] = one.Value
		}
		r.latest[device] = items
	}
	return nil
}

// mark is what whole hashes are marked with: the history of the data that Redis has now (INFO, master_replid).
func (s *system) mark(ctx context.Context) (string, error) {
	info, err := s.live.Info(ctx, "replication").Result()
	_, rest, _ := strings.Cut(info, "master_replid:")
	id, _, _ := strings.Cut(rest, "\r\n")
	return id, err
}

func (s *system) hash(ctx context.Context, key, mark string) (h hash, whole bool, err error) {
	var fields, meta *redis.MapStringStringCmd
	_, err = s.live.TxPipelined(ctx, func(p redis.Pipeliner) error {
		fields, meta = p.HGetAll(ctx, key), p.HGetAll(ctx, key+":meta")
		return nil
	})
	if err != nil {
		return h, false, err
	}
	about := meta.Val()
	if about["complete"] != mark || about["held"] != strconv.Itoa(len(fields.Val())) || about["ahead"] != "" {
		return h, false, nil
	}
	h = hash{status: about["status"], states: map[string]heldOperation{}}
	if h.version, err = strconv.ParseInt(about["version"], 10, 64); err != nil {
		return h, false, fmt.Errorf("%s: version: %w", key, err)
	}
	if err := json.Unmarshal([]byte(about["counts"]), &h.counts); err != nil {
		return h, false, fmt.Errorf("%s: counts: %w", key, err)
	}
	for device, text := range fields.Val() {
		var o heldOperation
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			return h, false, fmt.Errorf("%s %s: %w", key, device, err)
		}
		h.states[device] = o
	}
	return h, true, nil
}
