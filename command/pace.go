package command

import "time"

// pace bounds what one claim of a worker takes in: so much that whoever waits for something real-time does not wait
// long for it. Without real-time work batches are large, which costs least.
type pace struct {
	each   time.Duration // what one more costs in a large batch, smoothed
	small  time.Duration // what a batch of a few costs, smoothed: nearly all of it is the same for every batch
	wanted time.Time     // when there was real-time work last
	next   time.Time     // when the next large batch may come while there is
}

const (
	batchLeast = 64   // entries or operations of one transaction,
	batchMost  = 1000 // and when nobody waits
	fewest     = 16   // a batch of so few says what a transaction costs by itself
	// quickBatch is how long a batch may take while there is real-time work, if it is not slower than a small one.
	quickBatch = 20 * time.Millisecond
	wantedFor  = 5 * time.Second
)

// want notes that there is real-time work.
func (p *pace) want() { p.wanted = time.Now() }

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
	p.next = time.Now().Add(d)
	if n >= batchLeast {
		p.each = smooth(p.each, max(0, d-p.small)/time.Duration(n))
	}
}

// pauses says whether the next large batch has to wait: while there is real-time work, each is followed by as much time for others.
// A machine that is busy without a break with what can wait lets everybody wait.
func (p *pace) pauses() bool {
	return time.Now().Before(p.next) && time.Since(p.wanted) <= wantedFor
}

// most is how many go into one transaction.
func (p *pace) most() int {
	if p.each == 0 || time.Since(p.wanted) > wantedFor {
		return batchMost
	}
	return min(max(int(max(quickBatch, p.small)/p.each), batchLeast), batchMost)
}
