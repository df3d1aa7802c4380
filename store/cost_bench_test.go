package store

import (
	"flag"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"meterline/command"
	"meterline/fleet"
	"meterline/meterread"
	"meterline/testkit"
)

var (
	costOf  = flag.Int("cost", 20_000, "how many operations BenchmarkCost moves through each phase of a round")
	costLog = flag.Bool("costlog", false, "BenchmarkCost tells what was written to the write-ahead log")
)

// costShape is how operations come: so many of a command, so many in a transaction of the worker, and the meters of an IPC
// (0: direct devices).
type costShape struct{ each, batch, meters int }

// BenchmarkCost takes operations from the command to the stored reading and reports, for each phase, what PostgreSQL takes for
// one of them: processor time of all its processes in µs, bytes of write-ahead log, entries written to indexes, and which
// share of the updates was HOT. The first round, in which plans are made and files grow, does not count.
//
//	go test ./store -run '^$' -bench Cost -benchtime 2x [-cost 20000] [-costlog]
func BenchmarkCost(b *testing.B) {
	for _, s := range []costShape{{1000, 1000, 50}, {1000, 1000, 0}, {1, 250, 0}, {1, 50, 0}, {1, 10, 0}, {1, 1, 0}} {
		b.Run(fmt.Sprintf("each=%d/batch=%d/meters=%d", s.each, s.batch, s.meters), func(b *testing.B) {
			c := newCosts(b, s)
			c.round()
			c.reset()
			for b.Loop() {
				c.round()
			}
			c.report()
		})
	}
}

// costs adds up what each phase takes.
type costs struct {
	fixture
	shape    costShape
	b        *testing.B
	devices  int
	fence    command.Fence
	heads    []command.Head
	n        int // operations in a round
	counter  int
	phases   []string
	of       map[string]*cost
	inspects bool
}

type cost struct {
	operations, wal, indexed, updated, hot int
	worked                                 time.Duration
}

func newCosts(b *testing.B, s costShape) *costs {
	db := newRecord(b, testkit.Postgres(b))
	c := &costs{fixture: fix(b, db), shape: s, b: b, of: map[string]*cost{}}
	_, err := db.writes.pool.Exec(`CREATE EXTENSION pg_walinspect`)
	c.inspects = err == nil
	c.devices = max(1000, s.batch)
	c.n = *costOf
	if s.batch < 50 {
		c.n /= 10
	}
	c.fence = c.own("w")
	c.fleet()
	db.writes.pool.SetMaxOpenConns(1) // whose statistics can be asked for
	return c
}

// fleet makes the devices.
func (c *costs) fleet() {
	var rows []fleet.ImportRow
	add := func(d fleet.Device) {
		d.Tenant, d.Enabled = tenantA, true
		d.Tags = map[string]string{"city": "Graz", "district": "Lend"}
		rows = append(rows, fleet.ImportRow{Line: len(rows) + 1, Device: d})
	}
	head := func(id fleet.DeviceID, limit int) {
		c.heads = append(c.heads, command.Head{Endpoint: id, Partition: c.partitionOf(id), Limit: limit})
	}
	for i := range c.devices {
		if c.shape.meters == 0 {
			id := fleet.DeviceID(fmt.Sprintf("meter-%06d", i))
			add(fleet.Device{ID: id, Kind: fleet.Direct, Name: "Meter " + strconv.Itoa(i)})
			head(id, c.n)
			continue
		}
		ipc := fleet.DeviceID(fmt.Sprintf("ipc-%04d", i/c.shape.meters))
		if i%c.shape.meters == 0 {
			add(fleet.Device{ID: ipc, Kind: fleet.IPC})
			head(ipc, c.n)
		}
		add(fleet.Device{ID: fleet.DeviceID(fmt.Sprintf("meter-%06d", i)), Kind: fleet.Meter, Name: "Meter " + strconv.Itoa(i), EndpointID: ipc,
			Route: []byte(fmt.Sprintf(`[{"bus":"com1","baud":2400},{"meter":"%012d","protocol":"dlt645-2007"}]`, i))})
	}
	_, err := c.Import(c.ctx, by(tenantA), func() ([]fleet.ImportRow, error) {
		if len(rows) == 0 {
			return nil, nil
		}
		batch := rows[:min(len(rows), 1000)]
		rows = rows[len(batch):]
		return batch, nil
	})
	check(c, err)
}

// round takes operations through all phases. They are found in the order in which they were made, since nothing else waits.
func (c *costs) round() {
	keys := make([]command.Key, 0, c.n)
	c.phase("create", func() {
		for len(keys) < c.n {
			s := command.Selector{All: true}
			if c.shape.each == 1 {
				s = ids(fmt.Sprintf("meter-%06d", len(keys)%c.devices))
			}
			for _, o := range c.create(want(tenantA, s), time.Hour).Operations {
				keys = append(keys, o.Key())
			}
		}
	})
	c.phase("ready", func() { c.find() })
	c.move("claim", keys, claim)
	c.move("deliver", keys, func(x *command.Tx, o *command.Operation) error { return o.Deliver(x.Now, time.Minute) })
	c.move("accept", keys, func(x *command.Tx, o *command.Operation) error { return o.Accept(x.Now, time.Minute) })
	c.counter++
	c.move("answer", keys, func(x *command.Tx, o *command.Operation) error {
		r := meterread.Reading{DeviceID: o.DeviceID, Item: "1-0:1.8.0", Value: strconv.Itoa(c.counter) + ".25", Unit: "kWh", ReadAt: x.Now,
			ReceivedAt: x.Now, Quality: meterread.Valid, CommandID: o.CommandID}
		o.Readings = []meterread.Reading{r}
		x.Readings = append(x.Readings, r)
		p := o.Partition
		x.Positions = []command.LogPosition{{Partition: p, Generation: "g", Position: command.Position(strconv.Itoa(len(x.Readings)))}}
		return o.Succeed(x.Now)
	})
}

// find looks for what can be sent, as many heads at once as a transaction of the shape moves.
func (c *costs) find() {
	limit := max(1, c.shape.meters)
	for i, left := 0, c.n; left > 0; i++ {
		var heads []command.Head
		for j := range max(1, c.shape.batch/limit) {
			h := c.heads[(i*max(1, c.shape.batch/limit)+j)%len(c.heads)]
			h.Limit = limit
			heads = append(heads, h)
		}
		ready, err := c.Ready(c.ctx, heads)
		check(c, err)
		found := 0
		for _, front := range ready {
			found += len(front.Operations)
		}
		if found == 0 {
			c.Fatal("nothing is ready")
		}
		left -= found
	}
}

func (c *costs) move(phase string, keys []command.Key, move func(*command.Tx, *command.Operation) error) {
	c.phase(phase, func() {
		for i := 0; i < len(keys); i += c.shape.batch {
			c.change(c.fence, move, keys[i:min(i+c.shape.batch, len(keys))]...)
		}
	})
}

// phase measures f.
func (c *costs) phase(name string, f func()) {
	sum := c.of[name]
	if sum == nil {
		sum = &cost{}
		c.of[name] = sum
		c.phases = append(c.phases, name)
	}
	before, place, worked := c.updates(), c.place(), c.processorTime()
	f()
	sum.worked += c.processorTime() - worked
	after, end := c.updates(), c.place()
	sum.operations += c.n
	sum.updated += after.Updated - before.Updated
	sum.hot += after.Hot - before.Hot
	var wal int
	check(c, c.writes.pool.Get(&wal, `SELECT pg_wal_lsn_diff($1, $2)::bigint`, end, place))
	sum.wal += wal
	if c.inspects && wal > 0 {
		sum.indexed += c.inspect(name, place, end)
	}
}

type updates struct {
	Updated, Hot int
}

// updates are those of the table of operations by now.
func (c *costs) updates() (u updates) {
	_, err := c.writes.pool.Exec(`SELECT pg_stat_force_next_flush()`)
	check(c, err)
	check(c, c.writes.pool.Get(&u, `
		SELECT COALESCE(sum(n_tup_upd), 0) AS updated, COALESCE(sum(n_tup_hot_upd), 0) AS hot FROM pg_stat_user_tables WHERE relname LIKE 'operations%'`))
	return u
}

// place is where the write-ahead log ends.
func (c *costs) place() (lsn string) {
	check(c, c.writes.pool.Get(&lsn, `SELECT pg_current_wal_insert_lsn()::text`))
	return lsn
}

// inspect counts the entries of indexes in a part of the log.
func (c *costs) inspect(name, from, to string) (indexed int) {
	var kinds []struct {
		Kind         string `db:"kind"`
		N            int    `db:"n"`
		Bytes, Pages int
	}
	_, err := c.writes.pool.Exec(`SELECT pg_switch_wal()`) // what it tells of must have been written
	check(c, err)
	check(c, c.writes.pool.Select(&kinds, `
		SELECT "resource_manager/record_type" AS kind, count AS n, record_size AS bytes, fpi_size AS pages
		FROM pg_get_wal_stats($1::pg_lsn, $2::pg_lsn, true)
		WHERE count > 0
		ORDER BY record_size + fpi_size DESC`, from, to))
	for _, k := range kinds {
		if strings.HasPrefix(k.Kind, "Btree/INSERT_LEAF") {
			indexed += k.N
		}
		if *costLog {
			c.b.Logf("%8s %-28s %6.2f an operation, %6.1f bytes, %6.1f bytes of pages", name, k.Kind, float64(k.N)/float64(c.n),
				float64(k.Bytes)/float64(c.n), float64(k.Pages)/float64(c.n))
		}
	}
	return indexed
}

func (c *costs) reset() {
	for _, sum := range c.of {
		*sum = cost{}
	}
}

// report tells the sums, and those of what every operation goes through: moves that come together are written once.
func (c *costs) report() {
	var all cost
	for _, name := range c.phases {
		sum := c.of[name]
		c.tell(name, *sum)
		if name != "deliver" && name != "accept" {
			all.worked += sum.worked
			all.wal += sum.wal
			all.indexed += sum.indexed
			all.operations = sum.operations
		}
	}
	c.tell("all", all)
}

func (c *costs) tell(name string, sum cost) {
	n := float64(sum.operations)
	c.b.ReportMetric(float64(sum.worked.Nanoseconds())/1000/n, "µs:"+name)
	c.b.ReportMetric(float64(sum.wal)/n, "wal:"+name)
	if c.inspects {
		c.b.ReportMetric(float64(sum.indexed)/n, "idx:"+name)
	}
	if sum.updated > 0 {
		c.b.ReportMetric(float64(sum.hot)/float64(sum.updated), "hot:"+name)
	}
}
