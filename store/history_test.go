package store

import (
	"fmt"
	"strconv"
	"strings"

	"meterline/fleet"
)

// history is how much a record remembers: the last 30 days of three tenants, of which acme has eight tenths. Of 100
// commands 99 are for one device and one is for 401, so that there are five operations a command; 90 % of them succeeded,
// 5 % failed, 3 % expired, 1 % were cancelled and 0.5 % are dead. 0.5 % are open, some of which are overdue.
type history struct {
	commands int // a multiple of 100
	devices  int // a multiple of 50, which is how many meters an IPC has
}

// What a history is made of.
const (
	largeCommand = 401 // devices of one command in a hundred
	metersPerIPC = 50
)

// remember fills a PostgreSQL record with a history. Groups of acme: district is half of its devices, street 1000 of them,
// house 20, dormant 500 that nobody asked anything in the last 20 days, empty none.
func (f fixture) remember(h history) {
	f.Helper()
	f.script(h.names(f.DB), rememberedDevices, rememberedGroups, rememberedOrders, rememberedOperations, rememberedCommands, rememberedErrors,
		`DROP TABLE pg_temp.orders`, `VACUUM (ANALYZE)`, lastNumber)
}

const lastNumber = `SELECT setval('commands_seq_seq', (SELECT max(seq) FROM commands))`

// script runs statements, the same numbers each time, with the planner as it is by default.
func (f fixture) script(names *strings.Replacer, statements ...string) {
	f.Helper()
	c, err := f.writes.pool.Connx(f.ctx)
	check(f, err)
	defer c.Close()
	defer func() { _, _ = c.ExecContext(f.ctx, `RESET ALL`) }() // to what the connection began with
	for _, s := range append([]string{`SET enable_hashjoin = on`, `SET enable_seqscan = on`, `SELECT setseed(0.5)`}, statements...) {
		if _, err := c.ExecContext(f.ctx, names.Replace(s)); err != nil {
			f.Fatalf("%v in\n%s", err, names.Replace(s))
		}
	}
}

// names are what the statements leave open.
func (h history) names(db *DB) *strings.Replacer {
	partitions := make([]string, h.devices/metersPerIPC)
	for i := range partitions {
		partitions[i] = strconv.Itoa(db.partitionOf(ipcNumber(i)))
	}
	return strings.NewReplacer("{commands}", strconv.Itoa(h.commands), "{devices}", strconv.Itoa(h.devices), "{large}", strconv.Itoa(largeCommand),
		"{per_ipc}", strconv.Itoa(metersPerIPC), "{piled}", strconv.Itoa(piled), "{partitions}", "ARRAY["+strings.Join(partitions, ",")+"]")
}

func ipcNumber(i int) fleet.DeviceID { return fleet.DeviceID(fmt.Sprintf("ipc%04d", i)) }

// The meters of an IPC have numbers that follow each other, and so have the IPCs of a tenant.
const rememberedDevices = `
	INSERT INTO devices (id, tenant, name, kind, endpoint_id, partition, route, tags, enabled, created_at, updated_at)
	SELECT CASE WHEN d.meter THEN 'm' || lpad(n::text, 6, '0') ELSE d.ipc END, d.tenant, 'Device ' || n, CASE WHEN d.meter THEN 'meter' ELSE 'ipc' END,
		d.ipc, ({partitions})[d.i + 1], '[]', '{"city":"Graz"}', TRUE, now() - interval '1 year', now()
	FROM generate_series(0, {devices} + {devices} / {per_ipc} - 1) AS n
	CROSS JOIN LATERAL (
		SELECT meter, i, 'ipc' || lpad(i::text, 4, '0') AS ipc,
			CASE WHEN i < {devices} / {per_ipc} * 8 / 10 THEN 'acme' WHEN i < {devices} / {per_ipc} * 9 / 10 THEN 'other' ELSE 'third' END AS tenant
		FROM (SELECT n < {devices} AS meter, CASE WHEN n < {devices} THEN n / {per_ipc} ELSE n - {devices} END AS i) AS x) AS d`

const rememberedGroups = `
	WITH made AS (
		INSERT INTO groups (tenant, name, description, created_at)
		SELECT 'acme', name, '', now() FROM unnest(ARRAY['district', 'street', 'house', 'dormant', 'empty']) AS name)
	INSERT INTO group_members (tenant, group_name, device_id)
	SELECT 'acme', name, 'm' || lpad(n::text, 6, '0')
	FROM generate_series(0, {devices} * 8 / 10 - 1) AS n
	CROSS JOIN LATERAL (
		SELECT 'district' AS name WHERE n % 2 = 0
		UNION ALL SELECT 'street' WHERE n BETWEEN 1000 AND 1999
		UNION ALL SELECT 'house' WHERE n BETWEEN 2000 AND 2019
		UNION ALL SELECT 'dormant' WHERE n >= {devices} * 8 / 10 - 500) AS g`

// What was asked when, and of which devices: from first, n of them, among all devices. For an hour nothing more will expire.
const rememberedOrders = `
	CREATE TEMPORARY TABLE orders AS
	SELECT i AS seq, gen_random_uuid()::text AS id, tenant, kind, mode, created_at, n,
		created_at + CASE WHEN mode = 'realtime' THEN interval '30 seconds' WHEN age < 1 THEN interval '25 hours' ELSE interval '24 hours' END AS expires_at,
		lowest + floor(place * (width - CASE WHEN tenant = 'acme' AND age < 20 THEN 500 ELSE 0 END - n))::int AS first
	FROM (
		SELECT i, age, now() - age * interval '1 day' AS created_at, place, n, CASE WHEN n > 1 THEN 'async' WHEN m < 0.5 THEN 'realtime' ELSE 'async' END AS mode,
			CASE WHEN t < 0.8 THEN 'acme' WHEN t < 0.9 THEN 'other' ELSE 'third' END AS tenant,
			CASE WHEN t < 0.8 THEN 0 WHEN t < 0.9 THEN {devices} * 8 / 10 ELSE {devices} * 9 / 10 END AS lowest,
			CASE WHEN t < 0.8 THEN {devices} * 8 / 10 ELSE {devices} / 10 END AS width,
			CASE WHEN k < 0.03 THEN 'meter.time_sync' WHEN k < 0.04 AND age > 20 THEN 'meter.relay' ELSE 'meter.read' END AS kind
		FROM (
			SELECT i, 30.0 * ({commands} - i) / {commands} AS age, random() AS t, random() AS k, random() AS m, random() AS place,
				CASE WHEN i % 100 = 0 THEN {large} ELSE 1 END AS n
			FROM generate_series(1, {commands}) AS i) AS a) AS b`

const rememberedOperations = `
	INSERT INTO operations (command_id, device_id, tenant, endpoint_id, partition, kind, priority, seq, state, open, outcome, delivery, attempts,
		max_attempts, next_at, created_at, expires_at, updated_at, error_code, error_message, device, readings, from_stock, moves, version, changed,
		message_id, gateway, epoch, lease_until)
	SELECT id, device, tenant, ipc, ({partitions})[d / {per_ipc} + 1], kind, CASE WHEN mode = 'realtime' THEN 8 ELSE 5 END, seq,
		state, open, CASE WHEN NOT open THEN state END, CASE WHEN state = 'queued' THEN 'never_sent' ELSE 'acked' END, 1, 5, created_at, created_at, expires_at,
		least(created_at + interval '3 seconds', now()), code, CASE WHEN code IS NOT NULL THEN 'what the meter said' END,
		'{"name":"Device ' || d || '","kind":"meter","endpoint_id":"' || ipc ||
			'","route":[{"bus":"com1","baud":2400},{"meter":"000012345678","protocol":"dlt645-2007"}],"tags":{"city":"Graz"}}',
		CASE WHEN state = 'succeeded' AND kind = 'meter.read' THEN
			'[{"device_id":"' || device || '","item":"1-0:1.8.0","value":"1234.56","unit":"kWh","read_at":"2026-01-31T12:00:00Z",' ||
			'"received_at":"2026-01-31T12:00:03Z","quality":"valid","late":false,"command_id":"' || id || '"}]' END,
		FALSE, '[{"state":"queued","at":"2026-01-31T12:00:00Z"},{"state":"sent","at":"2026-01-31T12:00:01Z","attempt":1,"endpoint_id":"' || ipc ||
			'","gateway":"gw-1"},{"state":"delivered","at":"2026-01-31T12:00:02Z"},{"state":"' || state || '","at":"2026-01-31T12:00:03Z"}]',
		4, 2, gen_random_uuid()::text, 'gw-1/1', 7, created_at + interval '1 minute'
	FROM (
		SELECT *, state IN ('queued', 'sent', 'delivered', 'accepted') AS open, 'm' || lpad(d::text, 6, '0') AS device,
			'ipc' || lpad((d / {per_ipc})::text, 4, '0') AS ipc,
			CASE WHEN state = 'dead' THEN 'ATTEMPTS_USED_UP' WHEN state = 'failed' THEN
				CASE WHEN r2 < 0.6 THEN 'BUS_TIMEOUT' WHEN r2 < 0.8 THEN 'NO_SUCH_METER' WHEN r2 < 0.9 THEN 'BUSY' WHEN r2 < 0.96 THEN 'CRC_ERROR'
					WHEN r2 < 0.999 THEN 'METER_REFUSED' ELSE 'INTERNAL' END END AS code
		FROM (
			SELECT *, CASE
				WHEN mode = 'async' AND expires_at > now() - interval '30 minutes' AND r2 < 0.15 THEN
					CASE WHEN r < 0.7 THEN 'queued' WHEN r < 0.85 THEN 'sent' WHEN r < 0.9 THEN 'delivered' ELSE 'accepted' END
				WHEN r < 0.905 THEN 'succeeded' WHEN r < 0.955 THEN 'failed' WHEN r < 0.985 THEN 'expired' WHEN r < 0.995 THEN 'cancelled' ELSE 'dead' END AS state
			FROM (SELECT o.*, first + j AS d, random() AS r, random() AS r2 FROM orders o CROSS JOIN LATERAL generate_series(0, o.n - 1) AS j) AS a) AS b) AS c
	ORDER BY seq, device`

// The commands add up to what their operations are.
const rememberedCommands = `
	INSERT INTO commands (seq, id, tenant, kind, mode, priority, selector, items, max_age_us, max_attempts, issued_by, traceparent, created_at,
		expires_at, expanding, expanded_to, made, running, finished_at, version, total, sent, delivered, accepted, succeeded, failed, expired, cancelled, dead)
	SELECT o.seq, o.id, o.tenant, o.kind, o.mode, CASE WHEN o.mode = 'realtime' THEN 8 ELSE 5 END, s.selector, '["1-0:1.8.0"]', 0, 5, 'token', '', o.created_at, o.expires_at, FALSE,
		s.last, o.n, s.open > 0, CASE WHEN s.open = 0 THEN o.created_at + interval '3 seconds' END, 2, o.n,
		s.sent, s.delivered, s.accepted, s.succeeded, s.failed, s.expired, s.cancelled, s.dead
	FROM orders o
	JOIN (
		SELECT command_id, json_build_object('device_ids', json_agg(device_id))::text AS selector, max(device_id) AS last, count(*) FILTER (WHERE open) AS open,
			count(*) FILTER (WHERE state = 'sent') AS sent, count(*) FILTER (WHERE state = 'delivered') AS delivered,
			count(*) FILTER (WHERE state = 'accepted') AS accepted, count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
			count(*) FILTER (WHERE state = 'failed') AS failed, count(*) FILTER (WHERE state = 'expired') AS expired,
			count(*) FILTER (WHERE state = 'cancelled') AS cancelled, count(*) FILTER (WHERE state = 'dead') AS dead
		FROM operations
		GROUP BY command_id) AS s ON s.command_id = o.id
	ORDER BY o.seq`

const rememberedErrors = `
	INSERT INTO command_errors (command_id, code, n)
	SELECT command_id, error_code, count(*) FROM operations WHERE error_code IS NOT NULL GROUP BY command_id, error_code`

// pile lets operations wait: those of large commands of acme for all meters of 200 IPCs that are offline, and of one for the
// meters of 200 that are not.
func (f fixture) pile(h history, commands int) {
	f.Helper()
	f.script(h.names(f.DB), append([]string{strings.ReplaceAll(piledCommands, "{n}", fmt.Sprint(commands+1)),
		strings.ReplaceAll(piledOperations, "{n}", fmt.Sprint(commands+1))}, `VACUUM (ANALYZE)`, lastNumber)...)
}

const (
	onlineIPCs = 200
	piled      = onlineIPCs * metersPerIPC // operations of a command in the pile
)

const piledCommands = `
	INSERT INTO commands (seq, id, tenant, kind, mode, priority, selector, items, max_age_us, max_attempts, issued_by, traceparent, created_at,
		expires_at, expanding, expanded_to, made, running, version, total, sent, delivered, accepted, succeeded, failed, expired, cancelled, dead)
	SELECT (SELECT max(seq) FROM commands) + i, 'piled-' || lpad(i::text, 4, '0'), 'acme', 'meter.read', 'async', 5, '{"all":true}', '["1-0:1.8.0"]', 0, 5, 'token', '',
		now() - ({n} - i) * interval '1 minute', now() + interval '1 day', FALSE, 'z', {piled}, TRUE, 1, {piled}, 0, 0, 0, 0, 0, 0, 0, 0
	FROM generate_series(1, {n}) AS i`

const piledOperations = `
	INSERT INTO operations (command_id, device_id, tenant, endpoint_id, partition, kind, priority, seq, state, open, delivery, attempts, max_attempts,
		next_at, created_at, expires_at, updated_at, device, from_stock, moves, version, changed)
	SELECT id, x.meter || lpad(d::text, 6, '0'), tenant, x.ipc || lpad((d / {per_ipc})::text, 4, '0'), CASE WHEN x.ipc = 'ipc' THEN ({partitions})[d / {per_ipc} + 1] ELSE d / {per_ipc} % 16 END,
		kind, priority, seq, 'queued', TRUE, 'never_sent', 0, 5, created_at, created_at, expires_at, created_at,
		'{"name":"Device ' || d || '","kind":"meter","endpoint_id":"' || x.ipc || lpad((d / {per_ipc})::text, 4, '0') || '","route":[{"bus":"com1"}],"tags":{}}',
		FALSE, '[{"state":"queued","at":"2026-01-31T12:00:00Z"}]', 1, 1
	FROM commands
	CROSS JOIN LATERAL (SELECT CASE WHEN id = 'piled-' || lpad('{n}', 4, '0') THEN 'ipc' ELSE 'off' END AS ipc, CASE WHEN id = 'piled-' || lpad('{n}', 4, '0') THEN 'm' ELSE 'o' END AS meter) AS x
	CROSS JOIN generate_series(0, {piled} - 1) AS d
	WHERE id LIKE 'piled-%'
	ORDER BY seq, d`
