//go:build linux

package main

import (
	"context"
	"fmt"
	"time"

	"meterline/testkit/swarm"
)

// check is the comparison of the record with what was acknowledged: readings of devices, or commands of users.
type check struct {
	Acknowledged int64 `json:"acknowledged"`
	Stored       int64 `json:"stored"`
	Missing      int64 `json:"missing"`
	Twice        int64 `json:"twice"`
	Changed      int64 `json:"changed"`     // have another value than was handed in at that time
	NotEnded     int64 `json:"not_ended"`   // operations that have not succeeded
	AskedAgain   int64 `json:"asked_again"` // operations that took more than one attempt; no fault
	DeadLetters  int64 `json:"dead_letters"`
}

// wrong says what is.
func (c check) wrong() error {
	if c.Missing+c.Twice+c.Changed+c.NotEnded+c.DeadLetters != 0 {
		return fmt.Errorf("the record is not what it should be: %+v", c)
	}
	return nil
}

// stored waits until all that devices were acknowledged is in the record, or until nothing has come for a minute, and compares.
// Readings of a swarm are told by their time, which only one of them has.
func (r *rig) stored(ctx context.Context, prefix string, s *swarm.Swarm) (c check, err error) {
	const every, nothingFor = 500 * time.Millisecond, time.Minute
	last, since := int64(-1), time.Now()
	err = r.until(ctx, "everything is stored", every, func() (bool, error) {
		c, err = r.compare(ctx, prefix, s)
		if c.Stored != last {
			last, since = c.Stored, time.Now()
		}
		return err == nil && (c.Missing == 0 && c.NotEnded == 0 || time.Since(since) > nothingFor), err
	})
	return c, err
}

// compare looks at the record once.
func (r *rig) compare(ctx context.Context, prefix string, s *swarm.Swarm) (c check, err error) {
	counts, like := s.Counts(), prefix+"-%"
	c.Acknowledged = counts.Acked
	var times int64
	err = r.DB.QueryRowContext(ctx, `
		SELECT count(*), count(DISTINCT read_at), count(*) FILTER (WHERE round(extract(epoch FROM read_at - $2) * 1000000) <> value::numeric)
		FROM readings WHERE device_id LIKE $1 AND read_at > $2 AND read_at <= $3`,
		like, s.Began(), s.Began().Add(time.Duration(counts.Sent)*time.Microsecond)).Scan(&c.Stored, &times, &c.Changed)
	if err != nil {
		return c, fmt.Errorf("compare with the record: %w", err)
	}
	c.Missing, c.Twice = max(0, c.Acknowledged-times), c.Stored-times
	err = r.DB.QueryRowContext(ctx, `
		SELECT count(*) FILTER (WHERE state <> 'succeeded'), count(*) FILTER (WHERE attempts > 1) FROM operations WHERE device_id LIKE $1`,
		like).Scan(&c.NotEnded, &c.AskedAgain)
	if err != nil {
		return c, fmt.Errorf("compare with the record: %w", err)
	}
	err = r.DB.QueryRowContext(ctx, `SELECT count(*) FROM dead_letters WHERE endpoint_id LIKE $1`, like).Scan(&c.DeadLetters)
	return c, err
}

// and is both together.
func (c check) and(more check) check {
	return check{c.Acknowledged + more.Acknowledged, c.Stored + more.Stored, c.Missing + more.Missing, c.Twice + more.Twice,
		c.Changed + more.Changed, max(c.NotEnded, more.NotEnded), max(c.AskedAgain, more.AskedAgain), max(c.DeadLetters, more.DeadLetters)}
}
