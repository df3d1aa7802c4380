package checker

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"meterline/testkit/history"
)

func newModel() *model {
	return &model{uplinks: map[string]*uplink{}, readings: map[readingKey]*said{}, answers: map[opKey]*answers{}, seen: map[opKey]*seen{},
		keys: map[string]*asked{}, commands: map[string]*asked{}, cancels: map[string]history.Line{}, polls: map[string]*shown{},
		endings: map[opKey]*ending{}, sessions: map[string]*sessionOf{}}
}

// read takes a whole history in.
func (m *model) read(dir string) error {
	for e, err := range history.Read(dir) {
		if err != nil {
			return err
		}
		if err := m.take(e); err != nil {
			return fmt.Errorf("%s: %w", e.Line, err)
		}
	}
	m.finish()
	return nil
}

func (m *model) finish() {
	for _, ts := range []*[]time.Duration{&m.ackTimes, &m.acceptTimes, &m.endTimes, &m.flushes} {
		slices.Sort(*ts)
	}
}

func (m *model) take(e history.Event) error {
	m.last = max(m.last, e.T)
	switch e.Kind {
	case history.Load:
		m.load(e)
	case history.Connect, history.Twin:
		m.session(e)
	case history.Uplink, history.Resend, history.Received, history.Taken, history.Executed:
		if e.Message == nil && (e.Kind != history.Uplink || e.Phase == history.Invoke) && e.Kind != history.Resend {
			return fmt.Errorf("%s without a message", e.Kind)
		}
		return m.device(e)
	case history.Post, history.Poll, history.Cancel, history.Probe:
		if e.Call == nil {
			return fmt.Errorf("%s without a call", e.Kind)
		}
		m.client(e)
	case history.Break:
		m.faults = append(m.faults, e)
		if e.Fault != nil && e.Fault.Name == history.Flush && e.Phase != history.Fail {
			m.flushes = append(m.flushes, e.T)
		}
	case history.Heal:
		m.heals = append(m.heals, e)
	}
	return nil
}

func (m *model) load(e history.Event) {
	if e.Phase == history.Invoke {
		m.loadFrom = e.T
	} else {
		m.loadTo = e.T
	}
}

func (m *model) device(e history.Event) error {
	switch {
	case e.Kind == history.Resend:
		m.resends++
	case e.Kind == history.Received:
		for _, d := range e.Message.DeviceIDs {
			k := opKey{e.Message.CommandID, d}
			s := m.seenOf(k)
			if s.received == "" {
				s.received = e.Line
			}
			if a := m.answers[k]; a != nil && a.acked != nil {
				s.asksAgain++
			}
		}
	case e.Kind == history.Taken:
		for _, d := range e.Message.DeviceIDs {
			m.seenOf(opKey{e.Message.CommandID, d}).taken = true
		}
	case e.Kind == history.Executed:
		for _, d := range e.Message.DeviceIDs {
			k := opKey{e.Message.CommandID, d}
			if s := m.seenOf(k); s.executed == "" {
				s.executed = e.Line
			}
			m.executions = append(m.executions, execution{k, e.At, e.Line})
		}
	case e.Phase == history.Invoke:
		return m.published(e)
	case e.Phase == history.OK:
		return m.acked(e)
	}
	return nil
}

// session follows who is connected. A twin that began to connect when the endpoint had long been, and got in, has to end it.
func (m *model) session(e history.Event) {
	s := m.sessions[e.Actor]
	if s == nil {
		s = &sessionOf{since: -1}
		m.sessions[e.Actor] = s
	}
	switch {
	case e.Kind == history.Connect && e.Phase == history.OK:
		s.since, s.line = e.T, e.Line
	case e.Kind == history.Connect:
		s.since = -1
		for i := range m.twins {
			if t := &m.twins[i]; t.endpoint == e.Actor && t.gone < 0 && t.old == s.line {
				t.gone = e.T
			}
		}
	case e.Phase == history.Invoke:
		s.challenge = e.T
	case s.since >= 0 && s.since < s.challenge:
		m.twins = append(m.twins, twin{endpoint: e.Actor, old: s.line, line: e.Line, at: e.T, gone: -1})
	}
}

func (m *model) seenOf(k opKey) *seen {
	if m.seen[k] == nil {
		m.seen[k] = &seen{}
	}
	return m.seen[k]
}

func (m *model) published(e history.Event) error {
	if m.uplinks[e.ID] != nil {
		return fmt.Errorf("message %s was published for the first time before", e.ID)
	}
	u := &uplink{id: e.ID, endpoint: e.Actor, channel: e.Message.Channel, intent: e.Message.Intent, line: e.Line, at: e.T}
	m.uplinks[u.id] = u
	m.copies += max(0, e.Message.Copies-1)
	if u.intent == history.Poison {
		return nil
	}
	if err := m.understand(u, e.Message.Body()); err != nil {
		return fmt.Errorf("message %s: %w", e.ID, err)
	}
	return nil
}

// wire is what uplinks may hold.
type wire struct {
	Results []struct {
		CommandID string        `json:"command_id"`
		DeviceID  string        `json:"device_id"`
		Status    string        `json:"status"`
		Code      string        `json:"code"`
		Final     *bool         `json:"final"`
		Readings  []wireReading `json:"readings"`
	} `json:"results"`
	Readings []wireReading `json:"readings"`
	Type     string        `json:"type"`
	DeviceID string        `json:"device_id"`
	At       time.Time     `json:"at"`
}

type wireReading struct {
	DeviceID string    `json:"device_id"`
	Item     string    `json:"item"`
	Value    string    `json:"value"`
	Unit     string    `json:"unit"`
	ReadAt   time.Time `json:"read_at"`
}

func (m *model) understand(u *uplink, body []byte) error {
	var w wire
	if err := json.Unmarshal(body, &w); err != nil {
		return err
	}
	switch u.channel {
	case "readings":
		for _, r := range w.Readings {
			m.say(u, r, r.DeviceID, "")
		}
	case "result":
		for _, r := range w.Results {
			k := opKey{r.CommandID, r.DeviceID}
			u.about = append(u.about, k)
			u.devices = append(u.devices, r.DeviceID)
			for _, one := range r.Readings {
				m.say(u, one, r.DeviceID, r.CommandID)
			}
			if u.intent == "" && (r.Final == nil || *r.Final) {
				m.answer(u, k, r.Status, r.Code)
			}
		}
	case "event":
		device := w.DeviceID
		if device == "" {
			device = u.endpoint
		}
		u.event = &eventKey{u.endpoint, device, w.Type, w.At.UnixMicro()}
	}
	return nil
}

// say notes a reading. What comes from somebody who does not speak for the device, or for a command that does not exist,
// must not be stored.
func (m *model) say(u *uplink, r wireReading, device, command string) {
	if u.intent == history.Foreign {
		u.devices = append(u.devices, device)
		return
	}
	if u.intent == history.UnknownCommand {
		return
	}
	k := readingKey{device, r.Item, r.ReadAt.UnixMicro(), r.Value}
	u.readings = append(u.readings, k)
	if m.readings[k] == nil {
		m.readings[k] = &said{unit: r.Unit, command: command, by: u}
	}
}

func (m *model) answersTo(k opKey) *answers {
	if m.answers[k] == nil {
		m.answers[k] = &answers{codes: map[string]*uplink{}}
	}
	return m.answers[k]
}

func (m *model) answer(u *uplink, k opKey, status, code string) {
	a := m.answersTo(k)
	switch {
	case status == "ok" && a.ok == nil:
		a.ok = u
	case status != "ok" && a.codes[code] == nil:
		a.codes[code] = u
	}
}

func (m *model) acked(e history.Event) error {
	u := m.uplinks[e.ID]
	if u == nil {
		return fmt.Errorf("message %s was acknowledged and never published", e.ID)
	}
	if u.acked {
		return nil
	}
	u.acked, u.ackT, u.ackAt, u.ackLine = true, e.T, e.At, e.Line
	m.ackTimes = append(m.ackTimes, e.T)
	for _, k := range u.readings {
		if r := m.readings[k]; !r.by.acked {
			r.by = u
		}
	}
	for _, k := range u.about {
		switch a := m.answersTo(k); {
		case u.intent == history.AfterEnd:
			a.late = u
		case u.intent == "" && a.acked == nil:
			a.acked, a.ackedAt = u, e.At
		}
	}
	return nil
}

func (m *model) client(e history.Event) {
	if len(e.Call.Leaks) > 0 || e.Kind == history.Probe {
		m.calls = append(m.calls, e)
	}
	switch {
	case e.Kind == history.Post:
		m.post(e)
	case e.Kind == history.Cancel:
		m.cancels[e.ID] = e.Line
	case e.Kind == history.Poll && e.Phase == history.OK:
		m.poll(e)
	}
}

func (m *model) post(e history.Event) {
	name := keyName(e.Call.Tenant, e.ID)
	p := m.keys[name]
	if p == nil {
		p = &asked{tenant: e.Call.Tenant, key: e.ID, invokeT: e.T, invoked: e.Line, parent: e.Call.ParentID}
		m.keys[name] = p
	}
	if e.Phase != history.OK {
		return
	}
	p.lines = append(p.lines, e.Line)
	switch {
	case e.Call.CommandID == "":
		p.wrong = append(p.wrong, "accepted without an id")
	case p.id == "":
		p.id, p.hash, p.okT, p.line = e.Call.CommandID, e.Call.BodyHash, e.T, e.Line
		m.commands[p.id] = p
		m.acceptTimes = append(m.acceptTimes, e.T)
	case p.hash != e.Call.BodyHash:
		p.wrong = append(p.wrong, "another body was taken under the same key")
	case p.id != e.Call.CommandID:
		p.wrong = append(p.wrong, "the same key gave "+e.Call.CommandID+" and "+p.id)
	case !e.Call.Replayed:
		p.wrong = append(p.wrong, "a repeat is not said to be one")
	}
}

func terminal(state string) bool {
	return slices.Contains([]string{"succeeded", "failed", "expired", "cancelled", "dead"}, state)
}

func (m *model) poll(e history.Event) {
	if s := e.Call.Shown; s != "running" {
		if m.polls[e.ID] == nil {
			m.endTimes = append(m.endTimes, e.T)
		}
		m.polls[e.ID] = &shown{s, e.Line}
	}
	for device, state := range e.Call.States {
		k := opKey{e.ID, device}
		was := m.endings[k]
		switch {
		case was == nil && terminal(state):
			m.endings[k] = &ending{state: state, line: e.Line}
		case was != nil && was.state != state && was.other == "":
			was.other, was.at = state, e.Line
		}
	}
}

// flushedAfter says whether a flush came after t: what was acknowledged then and not yet stored may be gone.
func (m *model) flushedAfter(t time.Duration) bool {
	return len(m.flushes) > 0 && m.flushes[len(m.flushes)-1] >= t
}

// keyName is the name of a key among all tenants'.
func keyName(tenant, key string) string { return strings.Join([]string{tenant, key}, "/") }
