package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"meterline/fleet"
	"meterline/meterread"
)

// standing is a record with endpoints e00000, e00001, …
type standing struct {
	endpoints int
	asked     int
	fail      error
}

func (s *standing) Standing(_ context.Context, _ fleet.Tenant, since time.Time) (Standing, error) {
	s.asked++
	return Standing{Operations: OpenCount{Open: 3, Waiting: 1}, Minutes: []Minute{{At: since, Readings: 7}}, Codes: map[string]int{"BUSY": 2},
		Backends: []BackendHealth{}}, s.fail
}

func (s *standing) EndpointIDs(_ context.Context, _ fleet.Tenant, after meterread.DeviceID, limit int) (ids []meterread.DeviceID, err error) {
	for i := 0; i < s.endpoints && len(ids) < limit; i++ {
		if id := meterread.DeviceID(fmt.Sprintf("e%05d", i)); id > after {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// presences has everyone online, by turns at each of the gateways.
type presences struct {
	gateways []Gateway
	beats    map[string]int64
	fail     error
}

func (p *presences) Sessions(_ context.Context, endpoints []meterread.DeviceID) (map[meterread.DeviceID]Session, error) {
	found := map[meterread.DeviceID]Session{}
	for i, e := range endpoints {
		g := p.gateways[i%len(p.gateways)]
		found[e] = Session{Endpoint: e, Gateway: g.ID, Incarnation: g.Incarnation}
	}
	return found, p.fail
}

func (p *presences) Gateways(context.Context) (map[Gateway]int64, error) {
	all := map[Gateway]int64{}
	for _, g := range p.gateways {
		all[g] = p.beats[g.ID]
	}
	return all, nil
}

func TestOverview(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		book := &standing{endpoints: 2*endpointPage + 10}
		p := &presences{gateways: []Gateway{{"g1", "a", "host:1"}, {"g2", "b", "host:2"}}, beats: map[string]int64{}}
		o := NewOverviews(book, p, time.Now, slog.New(slog.DiscardHandler))
		look := func() Overview {
			t.Helper()
			v, err := o.Overview(t.Context(), "acme")
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		v := look()
		if v.Endpoints.Total != book.endpoints || *v.Endpoints.Online != book.endpoints || v.Operations.Open != 3 || len(v.Minutes) != 60 || v.Minutes[0].Readings != 7 ||
			!reflect.DeepEqual(v.Failures, []FailureCount{{"BUSY", 2}}) {
			t.Fatalf("%+v", v)
		}
		for range 20 {
			look()
		}
		if book.asked != 1 {
			t.Errorf("the record was asked %d times at once", book.asked)
		}
		for range 7 { // g2 is silent from now on
			time.Sleep(time.Second)
			p.beats["g1"]++
			v = look()
		}
		want := []GatewayHealth{{ID: "g1", Address: "host:1", Alive: true}, {ID: "g2", Address: "host:2"}}
		if !reflect.DeepEqual(v.Gateways, want) || *v.Endpoints.Online != book.endpoints/2 || book.asked > 9 {
			t.Errorf("%+v, %d online, asked %d times", v.Gateways, *v.Endpoints.Online, book.asked)
		}
		p.fail = errors.New("away")
		time.Sleep(time.Minute)
		if v = look(); v.Endpoints.Online != nil || v.Endpoints.Total != book.endpoints {
			t.Errorf("without presence: %+v", v.Endpoints)
		}
		book.fail = ErrUnavailable
		time.Sleep(time.Minute)
		if _, err := o.Overview(t.Context(), "acme"); !errors.Is(err, ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	})
}
