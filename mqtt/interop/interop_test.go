// Package interop drives a real gateway by the MQTT clients that people really use: the mosquitto programs,
// paho.mqtt.golang and mqtt.js of npm, over every transport and in every version of the protocol that each of them speaks.
//
// A scenario is written once, over the interface client; a driver for each make carries it out. What came of every
// combination is printed as a table at the end: `go test -v ./mqtt/interop`.
package interop

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// roles are whom a client signs in as: somebody without credentials where the gateway lets anybody in, an API token, and a
// device with its secret.
const (
	anonymous = "anonymous"
	service   = "service"
	device    = "device"
)

// errCannot is why a cell is empty: this make cannot do it.
var errCannot = errors.New("this client cannot do that")

// patience is how long a scenario may take, on a machine that is busy with other tests.
const patience = 2 * time.Minute

func TestClients(t *testing.T) {
	t.Parallel()
	e, m := newEstate(t), &matrix{cells: map[string]string{}}
	t.Run("all", func(t *testing.T) { // returns when all that is parallel in it has ended
		t.Run("documentation", func(t *testing.T) {
			t.Parallel()
			examples(t, e)
		})
		for _, make := range makes {
			t.Run(make.name, func(t *testing.T) {
				t.Parallel()
				d := make.make(t)
				for _, v := range make.variants {
					for _, s := range scenarios {
						for _, role := range s.roles {
							b := &bench{estate: e, driver: d, variant: v, role: role, scenario: s.name}
							t.Run(strings.TrimPrefix(b.cell(), make.name+"/"), func(t *testing.T) {
								t.Parallel()
								m.note(v, role+" "+s.name, judge(t, b, s.play))
							})
						}
					}
				}
			})
		}
	})
	t.Log("\n" + m.String())
}

// judge plays a scenario and gives what the table says.
func judge(t *testing.T, b *bench, play func(context.Context, *bench) error) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := errors.Join(play(ctx, b), b.tidy())
	switch {
	case errors.Is(err, errCannot):
		return "-"
	case err == nil:
		return "ok"
	}
	t.Error(err)
	return "FAILED"
}

// matrix is the table of results.
type matrix struct {
	mu    sync.Mutex
	cells map[string]string // by row and column
}

func (m *matrix) note(v variant, row, result string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cells[row+v.String()] = result
}

func (m *matrix) String() string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	var columns []variant
	for _, make := range makes {
		columns = append(columns, make.variants...)
	}
	for _, head := range []func(variant) string{
		func(v variant) string { return v.client }, func(v variant) string { return v.version }, func(v variant) string { return v.transport },
	} {
		for _, v := range columns {
			fmt.Fprint(w, "\t", head(v))
		}
		fmt.Fprintln(w)
	}
	for _, s := range scenarios {
		for _, role := range s.roles {
			fmt.Fprint(w, role+" "+s.name)
			for _, v := range columns {
				fmt.Fprint(w, "\t", m.cells[role+" "+s.name+v.String()])
			}
			fmt.Fprintln(w)
		}
	}
	_ = w.Flush() // into a builder
	return text.String()
}
