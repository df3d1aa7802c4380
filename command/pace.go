package command

import (
	"sync/atomic"
	"time"
)

// pace bounds what one transaction takes in of work that can wait, such as a backlog, so that whoever reads in real time does not
// wait long for it. While nobody does, batches are large, which costs least.
type pace struct {
	alone int           // how many go into one transaction while nobody reads
	each  time.Duration // what one more costs in a large batch, smoothed
	small time.Duration // what a batch of a few costs, smoothed: nearly all of it is the same for every batch
}

const (
	batchLeast = 64   // entries or operations of one transaction,
	batchMost  = 1000 // and when nobody waits
	fewest     = 16   // a batch of so few says what a transaction costs by itself
	// quickBatch is how long a batch may take while somebody reads, if it is not slower than a small one.
	quickBatch = 7 * time.Millisecond
)

// took notes how long n took.
func (p *pace) took(n int, d time.Duration) {
	smooth := func(old, now time.Duration) time.Duration {
		if old == 0 {
			return now
		}
		return (7*old + now) / 8
	}
	if n <= fewest {
		p.small = smooth(p.small, d)
		return
	}
	if n >= batchLeast {
		p.each = smooth(p.each, max(0, d-p.small)/time.Duration(n))
	}
}

// most is how many go into one transaction.
func (p *pace) most(read bool) int {
	if !read || p.each == 0 { // or not known yet
		return p.alone
	}
	return min(max(int(max(quickBatch, p.small)/p.each), batchLeast), p.alone)
}

// breath is how a worker shares the machine with those who read in real time: a round in which it did what can wait is followed by
// as much time without. A machine that is busy with that without a break lets everybody wait.
type breath struct {
	spent time.Duration // in this round on what can wait
	until time.Time     // nothing of it is done before, while somebody reads
}

// restMost bounds a rest: a round that took longer stood still for other reasons, and deadlines are swept only up to where the log has
// been read.
const restMost = 100 * time.Millisecond

// took notes how long something that can wait took.
func (b *breath) took(d time.Duration) { b.spent += d }

// round ends a round.
func (b *breath) round() {
	if b.spent > 0 {
		b.until, b.spent = time.Now().Add(min(b.spent, restMost)), 0
	}
}

// left is how long what can wait has to wait.
func (b *breath) left() time.Duration { return max(0, time.Until(b.until)) }

// Readers knows whether somebody reads in real time: a process's Service and its Worker tell each other. Safe for concurrent use;
// the zero Readers has seen nobody.
type Readers struct {
	seen atomic.Int64 // when there was real-time work last, in Unix nanoseconds
}

// readersStay is how long somebody is expected to go on reading.
const readersStay = 5 * time.Second

// came notes that there is real-time work.
func (r *Readers) came() { r.seen.Store(time.Now().UnixNano()) }

// there says whether somebody reads in real time.
func (r *Readers) there() bool { return time.Since(time.Unix(0, r.seen.Load())) <= readersStay }
