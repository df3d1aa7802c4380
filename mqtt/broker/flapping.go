package broker

import (
	"log/slog"
	"sync"
	"time"

	"meterline/fleet"
)

const (
	flapWindow  = time.Minute
	holdFirst   = time.Minute
	holdMost    = 5 * time.Minute
	holdForgets = 10 * time.Minute // after a hold-off: the next one is no longer than the first
	flapsMost   = 1 << 18          // endpoints that are counted
)

// flapping holds off endpoints that connect again and again. Only connects with the right secret count, so that nobody can
// hold off another's device. Sessions with a suffix are counted apart from the endpoint's own.
type flapping struct {
	limit   int // connects in a minute; 0: nobody is held off
	log     *slog.Logger
	metrics *metrics
	uplinks *uplinks
	now     func() time.Time

	mu    sync.Mutex
	table *expiring[flapper, comings]
}

type flapper struct {
	endpoint fleet.DeviceID
	suffixed bool
}

// comings is how often an endpoint connected.
type comings struct {
	connects int
	since    time.Time
	holds    int // one after the other
	until    time.Time
}

func newFlapping(o Options, u *uplinks, m *metrics) *flapping {
	return &flapping{
		limit: o.FlapLimit, log: o.Logger, metrics: m, uplinks: u, now: time.Now, table: newExpiring[flapper, comings](flapsMost),
	}
}

// connect counts a connect and says whether the endpoint may stay.
func (f *flapping) connect(who identity, remote string) bool {
	if f.limit == 0 {
		return true
	}
	lasts, begins, ok := f.count(flapper{who.endpoint, who.suffixed})
	if begins {
		f.metrics.holdOffs.Inc()
		f.log.Warn("endpoint held off: it connects too often; two devices with one identity push each other out like this",
			"endpoint_id", who.endpoint, "connects", f.limit+1, "within", flapWindow, "for", lasts, "remote_addr", remote)
		f.uplinks.security(who.endpoint, 0, "flapping", map[string]any{
			"connects": f.limit + 1, "within_s": flapWindow.Seconds(), "held_off_s": lasts.Seconds(), "remote_addr": remote,
			"detail": "it connects too often; two devices with one identity push each other out like this",
		})
	}
	return ok
}

// count counts a connect. begins says that with it a hold-off has begun, which lasts so long.
func (f *flapping) count(who flapper) (lasts time.Duration, begins, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	t, _ := f.table.get(who, now)
	if t.until.After(now) {
		return 0, false, false
	}
	if t.connects == 0 || now.Sub(t.since) >= flapWindow {
		t.connects, t.since = 0, now
	}
	t.connects++
	if ok = t.connects <= f.limit; !ok {
		lasts = min(holdFirst<<min(t.holds, 8), holdMost)
		t.holds++
		t.connects, t.until = 0, now.Add(lasts)
	}
	f.table.put(who, t, t.forgotten(now))
	return lasts, !ok, ok
}

func (t comings) forgotten(now time.Time) time.Time {
	if t.holds == 0 {
		return now.Add(flapWindow)
	}
	return t.until.Add(holdForgets)
}

// excuse takes the connect of a session back that the gateway ends because something of its own is away: whoever comes back
// from that is not flapping, and would be held off for minutes after an outage of one.
func (f *flapping) excuse(s *session) {
	if f == nil || f.limit == 0 || s.who.role != roleEndpoint || !s.excused.CompareAndSwap(false, true) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	who, now := flapper{s.who.endpoint, s.who.suffixed}, f.now()
	if t, _ := f.table.get(who, now); t.connects > 0 {
		t.connects--
		f.table.put(who, t, t.forgotten(now))
	}
}

// held is how many endpoints are held off now.
func (f *flapping) held() float64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	return float64(f.table.count(now, func(t comings) bool { return t.until.After(now) }))
}
