package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// summary prints what the table comes to.
func (s *story) summary(w io.Writer) {
	fmt.Fprintf(w, "| what | |\n|---|---|\n")
	line := func(what, format string, args ...any) {
		fmt.Fprintf(w, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
	}
	line("the server answered again", "%s s after the outage began; times below that are not said to be since then are from its beginning", seconds1(s.healed-s.began))
	s.requests(line, "POST", s.posts)
	s.requests(line, "poll", s.polls)
	line("longest time without an accepted POST, a PUBACK, an operation seen to end", "%s s, %s s, %s s",
		s.gap(s.posted()), s.gap(s.acked()), s.gap(s.ended))
	line("longest time from a publish to its PUBACK", "%s s", seconds1(longest(s.pubacks, func(p puback) (time.Duration, bool) { return p.took, p.at >= s.began })))
	line("since the end of the outage: first accepted POST, first PUBACK, first operation seen to end", "%s s, %s s, %s s",
		s.first(s.posted()), s.first(s.acked()), s.first(s.ended))
	line("since then: last POST refused or without answer, last poll", "%s, %s", s.lastBad(s.posts), s.lastBad(s.polls))
	line("since then: last connection lost, every endpoint had a PUBACK", "%s, %s", s.last(s.lost), s.everyEndpoint())
	samples := s.samples.all()
	line("since then (± 0.5 s): all processes ready, endpoints keep no more than before, the log is read as far as before", "%s, %s, %s",
		s.settled(samples, s.ready), s.settled(samples, s.handedIn), s.settled(samples, s.drained))
}

// requests tells how users fared from the outage on.
func (s *story) requests(line func(what, format string, args ...any), name string, all []request) {
	var c calls
	first, last := time.Duration(-1), time.Duration(-1)
	for _, r := range all {
		if r.at < s.began {
			continue
		}
		c.add(r)
		if r.refused() {
			if first < 0 {
				first = r.at - s.began
			}
			last = r.at - s.began
		}
	}
	line(name+": 2xx, 503, 429, other, no answer", "%d, %d, %d, %d, %d", c.taken, c.refused, c.tooMany, c.other, c.none)
	if first >= 0 {
		line(name+" refused with 503", "from %s s to %s s, %d without Retry-After", seconds1(first), seconds1(last), c.bare)
	}
	line(name+": longest wait for an answer", "%s s", seconds1(longest(all, func(r request) (time.Duration, bool) { return r.took, r.at >= s.began })))
}

func longest[T any](of []T, get func(T) (time.Duration, bool)) (most time.Duration) {
	for _, one := range of {
		if d, counts := get(one); counts {
			most = max(most, d)
		}
	}
	return most
}

func (s *story) posted() (at []time.Duration) {
	for _, r := range s.posts {
		if r.taken() {
			at = append(at, r.at)
		}
	}
	return at
}

func (s *story) acked() (at []time.Duration) {
	for _, p := range s.pubacks {
		at = append(at, p.at)
	}
	return at
}

// gap is the longest time between two of the moments, of those from the outage on and the last before it.
func (s *story) gap(at []time.Duration) string {
	var most time.Duration
	for i := 1; i < len(at); i++ {
		if at[i] >= s.began {
			most = max(most, at[i]-at[i-1])
		}
	}
	return seconds1(most)
}

// first is how long after the end of the outage the next of the moments was.
func (s *story) first(at []time.Duration) string {
	for _, t := range at {
		if t >= s.healed {
			return seconds1(t - s.healed)
		}
	}
	return "never"
}

// lastBad is how long after the end of the outage the last request was not done.
func (s *story) lastBad(all []request) string {
	var bad []time.Duration
	for _, r := range all {
		if r.status == 0 || r.status >= 500 {
			bad = append(bad, r.at)
		}
	}
	return s.last(bad)
}

// last is how long after the end of the outage the last of the moments was.
func (s *story) last(at []time.Duration) string {
	if len(at) == 0 || slices.Max(at) < s.healed {
		return "none"
	}
	return seconds1(slices.Max(at)-s.healed) + " s"
}

// everyEndpoint is how long after the end of the outage each endpoint that ever had a PUBACK had one.
func (s *story) everyEndpoint() string {
	first := map[string]time.Duration{}
	for _, p := range s.pubacks {
		if at, some := first[p.endpoint]; !some || at < s.healed {
			first[p.endpoint] = p.at
		}
	}
	at := slices.Collect(maps.Values(first))
	if len(at) == 0 || slices.Min(at) < s.healed {
		return "never"
	}
	return s.last(at)
}

// settled is how long after the end of the outage something began to be so for a while, or up to the end.
func (s *story) settled(all []sample, so func(sample) bool) string {
	since := time.Duration(-1)
	for _, one := range all {
		switch {
		case one.at < s.healed || !so(one):
			since = -1
		case since < 0:
			since = one.at
		}
		if since >= 0 && one.at-since >= calmFor {
			break
		}
	}
	if since < 0 {
		return "never"
	}
	return seconds1(since-s.healed) + " s"
}
