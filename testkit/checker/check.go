package checker

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"
	"github.com/redis/go-redis/v9"

	"meterline/testkit"
)

// Options say where the history is and where the system. Zero fields mean the defaults beside them.
type Options struct {
	History string   // the directory
	DB      string   // URL of the PostgreSQL that is the record
	Redis   string   // URL of the live state's Redis; it is not looked at when empty
	Except  []string // tenants that are not of the run
	Metrics []string // URLs of /metrics of all processes that live, such as http://127.0.0.1:8080/metrics

	Grace  time.Duration // after its deadline, for so long an operation may take to end, and an uplink to be stored; 15 s
	Settle time.Duration // for so long nothing may change for the system to be quiet; 2 s
}

// Check waits until the system is quiet and then judges the run. Everything that was broken must have been healed, and the
// load have stopped. The error is that of a check that could not be made: a history or a record that cannot be read.
func Check(ctx context.Context, o Options) (Report, error) {
	if o.Grace == 0 {
		o.Grace = 15 * time.Second
	}
	if o.Settle == 0 {
		o.Settle = 2 * time.Second
	}
	began := time.Now()
	var r Report
	m := newModel()
	if err := m.read(o.History); err != nil {
		return r, fmt.Errorf("check run: %w", err)
	}
	s, err := open(o)
	if err != nil {
		return r, fmt.Errorf("check run: %w", err)
	}
	defer s.close()
	if err := s.quiet(ctx, o); err != nil {
		return r, fmt.Errorf("check run: %w", err)
	}
	r, err = judgeUntil(ctx, m, s, o, time.Now().Add(o.Grace))
	if err != nil {
		return r, fmt.Errorf("check run: %w", err)
	}
	stored, err := s.stored(ctx)
	if err == nil {
		err = r.metrics(ctx, o.Metrics, stored, len(m.faults) > 0)
	}
	if err != nil {
		return r, fmt.Errorf("check run: %w", err)
	}
	r.Took = time.Since(began)
	return r, nil
}

// judgeUntil judges again, until the deadline, while something is missing that may still be on its way.
func judgeUntil(ctx context.Context, m *model, s *system, o Options, deadline time.Time) (Report, error) {
	for {
		var r Report
		rec, err := s.load(ctx)
		if err == nil {
			err = r.judge(ctx, m, rec, o.Grace)
		}
		if err != nil || len(r.Counts) == 0 || time.Now().After(deadline) {
			return r, err
		}
		if !r.mayPass() {
			return r, nil
		}
		if err := testkit.Pause(ctx, time.Second); err != nil {
			return r, err
		}
	}
}

// mayPass says whether all that is wrong may become right by waiting.
func (r *Report) mayPass() bool {
	for kind := range r.Counts {
		switch kind {
		case "lost", "without end", "command without end", "live state", "newest reading", "security event", "late answer":
		default:
			return false
		}
	}
	return true
}

// system is where the record and the live state are read.
type system struct {
	db   *sql.DB
	live *redis.Client // nil: not looked at

	except any // tenants, as an SQL array
}

func open(o Options) (*system, error) {
	db, err := sql.Open("postgres", o.DB)
	if err != nil {
		return nil, err
	}
	s := &system{db: db, except: pq.Array(append([]string{}, o.Except...))} // of nil it would be NULL
	if o.Redis != "" {
		opt, err := redis.ParseURL(o.Redis)
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		s.live = redis.NewClient(opt)
	}
	return s, nil
}

func (s *system) close() {
	_ = s.db.Close() // it was only read
	if s.live != nil {
		_ = s.live.Close()
	}
}

// quiet waits until no operation is open that may be, and nothing has changed for a while.
func (s *system) quiet(ctx context.Context, o Options) error {
	var last string
	since := time.Now()
	for {
		var now string
		var waiting int
		err := s.db.QueryRowContext(ctx, `
			SELECT (SELECT count(*) FROM operations WHERE open AND expires_at > clock_timestamp() - $1 * interval '1 second'),
				concat_ws(' ', (SELECT count(*) FROM readings), (SELECT count(*) FROM dead_letters), (SELECT count(*) FROM events),
					(SELECT sum(version) FROM commands), (SELECT count(*) FROM operations))`, o.Grace.Seconds()).Scan(&waiting, &now)
		if err != nil {
			return fmt.Errorf("wait until it is quiet: %w", err)
		}
		if now != last || waiting > 0 {
			last, since = now, time.Now()
		}
		if time.Since(since) >= o.Settle {
			return nil
		}
		if err := testkit.Pause(ctx, 200*time.Millisecond); err != nil {
			return fmt.Errorf("wait until it is quiet: %d operations are open: %w", waiting, err)
		}
	}
}
