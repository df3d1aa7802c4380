package store

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/testkit"
)

// eachDialect runs a test on a fresh record in each database.
func eachDialect(t *testing.T, test func(*testing.T, *DB)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, openPostgres(t))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, openSQLite(t))
	})
}

func openPostgres(t testing.TB) *DB { return newRecord(t, patientURL(t, testkit.Postgres(t))) }

// patientURL lets a transaction stand still for as long as the machine may keep a test waiting in the middle of it.
func patientURL(t testing.TB, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	check(t, err)
	q := u.Query()
	q.Set("idle_in_transaction_session_timeout", "60s")
	u.RawQuery = q.Encode()
	return u.String()
}

func openSQLite(t testing.TB) *DB {
	return newRecord(t, "sqlite:"+filepath.Join(t.TempDir(), "record.db"))
}

func newRecord(t testing.TB, url string) *DB {
	t.Helper()
	// A machine may be so busy that PostgreSQL passes for silent, and what it was at is given up. A migration may be repeated.
	testkit.Eventually(t, time.Minute, func() error { return Migrate(t.Context(), Options{URL: url}) }, "the schema")
	return reopen(t, url)
}

func reopen(t testing.TB, url string) *DB {
	t.Helper()
	db, err := Open(t.Context(), Options{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const tenantA, tenantB fleet.Tenant = "acme", "other"

// by is somebody of the tenant who does something.
func by(t fleet.Tenant) fleet.Actor {
	return fleet.Actor{Token: fleet.Token{ID: "t-1", Tenant: t, Name: "ci"}, RequestID: "r-1", RemoteAddr: "192.0.2.1:5000"}
}

// fixture makes fleets and commands for tests.
type fixture struct {
	testing.TB
	*DB
	ctx context.Context
}

func fix(t testing.TB, db *DB) fixture {
	return fixture{t, db, context.WithoutCancel(t.Context())}
}

// direct makes direct devices.
func (f fixture) direct(tenant fleet.Tenant, ids ...string) {
	f.Helper()
	for _, id := range ids {
		_, err := f.CreateDevice(f.ctx, by(tenant), fleet.Device{ID: fleet.DeviceID(id), Tenant: tenant, Kind: fleet.Direct, Enabled: true, Name: "device " + id}, []byte("mac"))
		check(f, err)
	}
}

// ipc makes an IPC with meters.
func (f fixture) ipc(tenant fleet.Tenant, id string, meters ...string) {
	f.Helper()
	_, err := f.CreateDevice(f.ctx, by(tenant), fleet.Device{ID: fleet.DeviceID(id), Tenant: tenant, Kind: fleet.IPC, Enabled: true}, []byte("mac"))
	check(f, err)
	for _, m := range meters {
		_, err := f.CreateDevice(f.ctx, by(tenant), fleet.Device{
			ID: fleet.DeviceID(m), Tenant: tenant, Kind: fleet.Meter, EndpointID: fleet.DeviceID(id), Enabled: true,
			Route: []byte(`[{"bus":"com1"},{"meter":"` + m + `"}]`), Tags: map[string]string{"city": "Graz"},
		}, nil)
		check(f, err)
	}
}

// meters makes an IPC with n meters named prefix000 and so on, quickly.
func (f fixture) meters(tenant fleet.Tenant, ipc, prefix string, n int) []meterread.DeviceID {
	f.Helper()
	rows := []fleet.ImportRow{{Line: 1, Device: fleet.Device{ID: fleet.DeviceID(ipc), Tenant: tenant, Kind: fleet.IPC, Enabled: true}}}
	ids := make([]meterread.DeviceID, n)
	for i := range n {
		ids[i] = fleet.DeviceID(fmt.Sprintf("%s%05d", prefix, i))
		rows = append(rows, fleet.ImportRow{Line: i + 2, Device: fleet.Device{ID: ids[i], Tenant: tenant, Kind: fleet.Meter,
			EndpointID: fleet.DeviceID(ipc), Enabled: true}})
	}
	_, err := f.Import(f.ctx, by(tenant), func() ([]fleet.ImportRow, error) {
		batch := rows
		rows = nil
		return batch, nil
	})
	check(f, err)
	return ids
}

// want is a command that reads one item.
func want(tenant fleet.Tenant, s command.Selector) command.Command {
	return command.Command{
		Tenant: tenant, Kind: command.MeterRead, Mode: command.Async, Priority: 5, Selector: s, Attempts: 5,
		Items: []meterread.Item{"1-0:1.8.0"}, IssuedBy: "tester",
	}
}

func ids(list ...string) command.Selector {
	s := command.Selector{}
	for _, id := range list {
		s.DeviceIDs = append(s.DeviceIDs, meterread.DeviceID(id))
	}
	return s
}

func (f fixture) create(c command.Command, ttl time.Duration) command.Created {
	f.Helper()
	made, err := f.Create(f.ctx, c, ttl, command.Idempotency{}, 10_000, command.Born)
	check(f, err)
	return made
}

// issue makes a command on devices by their ids.
func (f fixture) issue(tenant fleet.Tenant, list ...string) command.Created {
	f.Helper()
	return f.create(want(tenant, ids(list...)), time.Hour)
}

// own makes owner hold everything.
func (f fixture) own(owner string) command.Fence {
	f.Helper()
	held, _, err := f.Hold(f.ctx, owner, time.Minute, 0)
	check(f, err)
	return held
}

func key(id command.ID, device string) command.Key {
	return command.Key{CommandID: id, DeviceID: meterread.DeviceID(device)}
}

// change moves operations and insists that they are there.
func (f fixture) change(fence command.Fence, move func(*command.Tx, *command.Operation) error, keys ...command.Key) command.Committed {
	f.Helper()
	done, err := f.Change(f.ctx, fence, command.Need{Operations: keys}, func(x *command.Tx) error {
		for _, k := range keys {
			o := x.Operations[k]
			if o == nil {
				return fmt.Errorf("no operation %v", k)
			}
			if err := move(x, o); err != nil {
				return err
			}
		}
		return nil
	})
	check(f, err)
	return done
}

func claim(x *command.Tx, o *command.Operation) error {
	return o.Claim(x.Now, command.Session{Endpoint: o.EndpointID, Gateway: "gw", Incarnation: "1", Epoch: 7}, "msg", 15*time.Second)
}

func succeed(x *command.Tx, o *command.Operation) error { return o.Succeed(x.Now) }

func failWith(code string) func(*command.Tx, *command.Operation) error {
	return func(x *command.Tx, o *command.Operation) error {
		return o.Fail(x.Now, command.Failure{Code: code, Message: "because\x00of"})
	}
}

// operation loads one operation.
func (f fixture) operation(k command.Key) command.Operation {
	f.Helper()
	var got *command.Operation
	_, err := f.Change(f.ctx, nil, command.Need{Operations: []command.Key{k}}, func(x *command.Tx) error {
		got = x.Operations[k]
		return nil
	})
	check(f, err)
	if got == nil {
		f.Fatalf("operation %v is not there", k)
	}
	return *got
}

func (f fixture) command(id command.ID) command.Command {
	f.Helper()
	cs, err := f.Commands(f.ctx, []command.ID{id})
	check(f, err)
	c, ok := cs[id]
	if !ok {
		f.Fatalf("command %s is not there", id)
	}
	f.consistent(c)
	return c
}

// consistent compares a command's counts with its operations.
func (f fixture) consistent(c command.Command) {
	f.Helper()
	var rows []struct {
		State command.State `db:"state"`
		N     int           `db:"n"`
	}
	check(f, f.single(f.ctx, func(t *tx) error {
		return t.list(&rows, `SELECT state, count(*) AS n FROM operations WHERE command_id = $1 GROUP BY state`, string(c.ID))
	}))
	got := command.Counts{Total: c.Counts.Total}
	made := 0
	for _, r := range rows {
		*got.Of(r.State) = r.N
		made += r.N
	}
	got.Queued += c.Counts.Total - made // not expanded yet
	if got != c.Counts {
		f.Fatalf("counts of %s are %+v, its operations say %+v", c.ID, c.Counts, got)
	}
	if !c.Expanding && c.Running() != (c.Counts.Open() > 0) {
		f.Fatalf("command %s: running is %v with %+v", c.ID, c.Running(), c.Counts)
	}
}

// overdue moves the deadline of a command and its operations into the past.
func (f fixture) overdue(id command.ID) {
	f.Helper()
	now, err := f.Now(f.ctx)
	check(f, err)
	past := at(now.Add(-time.Second))
	check(f, f.write(f.ctx, urgent, func(t *tx) error {
		if _, err := t.exec(`UPDATE commands SET expires_at = $2 WHERE id = $1`, string(id), past); err != nil {
			return err
		}
		_, err := t.exec(`UPDATE operations SET expires_at = $2 WHERE command_id = $1`, string(id), past)
		return err
	}))
}

func deviceIDs(keys []command.Key) []string {
	list := make([]string, len(keys))
	for i, k := range keys {
		list[i] = string(k.DeviceID)
	}
	return list
}

func equal[T comparable](t testing.TB, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// eachURL runs a test on an empty database of each kind.
func eachURL(t *testing.T, test func(*testing.T, string)) {
	t.Helper()
	t.Run("postgres", func(t *testing.T) {
		t.Parallel()
		test(t, testkit.Postgres(t))
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		test(t, "sqlite:"+filepath.Join(t.TempDir(), "record.db"))
	})
}

func isNotFound(err error) bool { return errors.Is(err, command.ErrNotFound) }
