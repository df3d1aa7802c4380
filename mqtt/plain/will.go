package plain

import "time"

// lastWords are a will whose time has come.
type lastWords struct {
	st   *state
	who  any
	will *Will
}

// takeWill takes the will out of a session that is away if it is due by now; a zero now: whenever it is due.
func (st *state) takeWill(now time.Time) *lastWords {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.will == nil || st.conn != nil || !now.IsZero() && now.Before(st.willAt) {
		return nil
	}
	words := &lastWords{st: st, who: st.who, will: st.will}
	st.will = nil
	return words
}

// publishWill publishes a will [MQTT-3.1.2-8]; nil is none. It must be called without locks.
func (h *Hub) publishWill(w *lastWords) {
	if w == nil || !validTopic(w.will.Message.Topic) {
		return
	}
	m := w.will.Message
	if w.will.Expiry > 0 { // begins now [3.1.3.2.4]
		m.Expires = h.o.Now().Add(time.Duration(w.will.Expiry) * time.Second)
	}
	h.metrics.wills.Inc()
	_ = h.accept(w.st, w.who, &m, false) // nobody is left to be told
}
