package command

import "time"

// logSignal is what the uplink log's signal has told, so that it is not read again and again while nothing came.
type logSignal struct {
	unheeded bool // by rest
	took     look // by collect
	overtook look // by overtake
}

// look is when the log was read for one of two purposes.
type look struct {
	signalled bool // since then
	at        time.Time
}

// heard notes a signal: something was appended.
func (s *logSignal) heard() {
	s.unheeded, s.took.signalled, s.overtook.signalled = true, true, true
}

// due says whether the log has to be read for one of the two purposes: it signalled, or it was not read for a while, for signals may be
// lost and the horizon has to move on. A log that never signals is always read. It counts as read now.
func (s *logSignal) due(l *look, arrived <-chan struct{}) bool {
	select {
	case <-arrived:
		s.heard()
	default:
	}
	now := time.Now()
	if !l.signalled && arrived != nil && now.Sub(l.at) < readEvery {
		return false
	}
	*l = look{at: now}
	return true
}

// again has the log be read the next time.
func (l *look) again() { l.signalled = true }
