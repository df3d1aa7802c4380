package main

import (
	"slices"
	"time"
)

// row is one second, or several that are alike.
type row struct {
	from, to int // seconds since the outage began, to included
	posts    calls
	polls    calls
	ended    int
	pubacks  int
	slowest  time.Duration // of them, from the first publish on
	lost     int           // connections
	back     int
	failed   int64 // attempts to connect
	sample   sample
}

// calls are the requests that were answered, or given up, in a second.
type calls struct {
	taken, refused, tooMany, none, other int
	bare                                 int // refused, or too many, without Retry-After
	waiting                              int // at the end of the second, for an answer
	took                                 []time.Duration
}

func (c *calls) add(r request) {
	c.took = append(c.took, r.took)
	switch {
	case r.taken():
		c.taken++
	case r.refused():
		c.refused++
	case r.status == 429:
		c.tooMany++
	case r.status == 0:
		c.none++
	default:
		c.other++
	}
	if (r.refused() || r.status == 429) && !r.again {
		c.bare++
	}
}

func (c *calls) join(d calls) {
	c.taken, c.refused, c.tooMany = c.taken+d.taken, c.refused+d.refused, c.tooMany+d.tooMany
	c.none, c.other, c.bare = c.none+d.none, c.other+d.other, c.bare+d.bare
	c.waiting = max(c.waiting, d.waiting)
	c.took = slices.Concat(c.took, d.took)
}

// median and most are of the time until the answer.
func (c *calls) median() time.Duration {
	if len(c.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(c.took))
	return sorted[len(sorted)/2]
}

func (c *calls) most() time.Duration {
	if len(c.took) == 0 {
		return 0
	}
	return slices.Max(c.took)
}

// second is which one t is in: 0 is the first of the outage.
func (s *story) second(t time.Duration) int {
	d := t - s.began
	if d < 0 {
		return -int((-d + time.Second - 1) / time.Second)
	}
	return int(d / time.Second)
}

// rows are all seconds of the story that it has as a whole.
func (s *story) rows() []row {
	first, end := s.second(0)+1, s.second(s.until)
	rows := make([]row, max(0, end-first))
	for i := range rows {
		rows[i].from, rows[i].to = first+i, first+i
		rows[i].sample = nothing
	}
	at := func(t time.Duration) *row {
		if n := s.second(t) - first; n >= 0 && n < len(rows) {
			return &rows[n]
		}
		return &row{} // what is in no row
	}
	for _, r := range s.posts {
		at(r.at).posts.add(r)
	}
	for _, r := range s.polls {
		at(r.at).polls.add(r)
	}
	for i := range rows {
		over := s.began + time.Duration(rows[i].to+1)*time.Second
		rows[i].posts.waiting, rows[i].polls.waiting = waiting(s.posts, over), waiting(s.polls, over)
	}
	for _, t := range s.ended {
		at(t).ended++
	}
	for _, p := range s.pubacks {
		r := at(p.at)
		r.pubacks, r.slowest = r.pubacks+1, max(r.slowest, p.took)
	}
	for _, t := range s.lost {
		at(t).lost++
	}
	for _, t := range s.back {
		at(t).back++
	}
	s.sampled(at)
	return rows
}

// sampled gives each row the last sample of its second.
func (s *story) sampled(at func(time.Duration) *row) {
	var before int64
	for _, one := range s.samples.all() {
		r := at(one.at)
		r.failed += one.failed - before
		before = one.failed
		r.sample = one
	}
}

func waiting(requests []request, at time.Duration) (n int) {
	for _, r := range requests {
		if r.at > at && r.at-r.took <= at {
			n++
		}
	}
	return n
}

// kind is what happens in a second, whatever the figures.
func (r row) kind() [5]bool {
	p := r.posts
	bad := p.refused + p.tooMany + p.none
	return [...]bool{r.to < 0, bad > 0, bad > 0 && p.taken > 0, p.none > 0, r.pubacks > 0}
}

const foldMost = 10 // seconds

// folded puts neighbours of one kind together. The seconds that follow the given ones are left alone.
func folded(rows []row, moments ...int) (few []row) {
	const after = 3
	alone := func(r row) bool {
		return slices.ContainsFunc(moments, func(m int) bool { return r.from <= m+after && r.to >= m })
	}
	for _, r := range rows {
		last := len(few) - 1
		if last < 0 || few[last].kind() != r.kind() || r.to-few[last].from >= foldMost || alone(r) || alone(few[last]) {
			few = append(few, r)
			continue
		}
		few[last] = few[last].with(r)
	}
	return few
}

// with is r and the next second, or seconds, in one.
func (r row) with(next row) row {
	r.to = next.to
	r.posts.join(next.posts)
	r.polls.join(next.polls)
	r.ended, r.pubacks, r.slowest = r.ended+next.ended, r.pubacks+next.pubacks, max(r.slowest, next.slowest)
	r.lost, r.back, r.failed = r.lost+next.lost, r.back+next.back, r.failed+next.failed
	if next.sample != nothing {
		r.sample = next.sample
	}
	return r
}
