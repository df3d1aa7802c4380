package main

// asBefore says whether all is as it was before the outage. What varies on a machine that has other work may be twice as much.
func (s *story) asBefore(now sample) bool {
	return s.ready(now) && s.handedIn(now) && s.drained(now) && now.open != unknown
}

// ready: all processes say so.
func (s *story) ready(now sample) bool { return now.ready == s.samples.processes }

// handedIn: endpoints keep no more than before. Some of them are offline for seconds, and keep what they have meanwhile.
func (s *story) handedIn(now sample) bool {
	const some = 100
	return now.kept <= some+2*s.most(func(one sample) int64 { return one.kept })
}

// drained: the uplink log is read as far as before.
func (s *story) drained(now sample) bool {
	const tick = 2000 // the gauge is taken every 2 s
	most := s.most(func(one sample) int64 { return int64(one.oldest * 1000) })
	return now.oldest != unknown && now.oldest*1000 <= float64(max(tick, 2*most))
}

// most is the largest value before the outage.
func (s *story) most(of func(sample) int64) (most int64) {
	for _, one := range s.samples.all() {
		if one.at < s.began {
			most = max(most, of(one))
		}
	}
	return most
}
