-- +goose Up

-- The same tables as for PostgreSQL; times are TEXT in UTC with six decimals, so that they compare as they are.

-- What all processes of an installation share.
CREATE TABLE settings (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- Who owns which part of the endpoints, and how far its uplink log has been taken over.
CREATE TABLE partitions (
    n              INTEGER PRIMARY KEY,
    owner          TEXT NOT NULL DEFAULT '',
    epoch          INTEGER NOT NULL DEFAULT 0,
    lease_until    TIMESTAMP,
    idle_since     TIMESTAMP, -- what was committed before it has been carried into the live state
    log_generation TEXT NOT NULL DEFAULT '',
    position       TEXT NOT NULL DEFAULT ''
);

CREATE TABLE workers (
    owner   TEXT PRIMARY KEY,
    seen_at TIMESTAMP NOT NULL
);

CREATE TABLE devices (
    id          TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    name        TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('direct', 'ipc', 'meter')),
    endpoint_id TEXT NOT NULL,
    partition   INTEGER NOT NULL,
    route       TEXT NOT NULL,
    tags        TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    secret_mac  BLOB,
    created_at  TIMESTAMP NOT NULL,
    updated_at  TIMESTAMP NOT NULL
);
CREATE INDEX devices_tenant ON devices (tenant, id);
CREATE INDEX devices_endpoint ON devices (endpoint_id, id);

-- When a device was last read, apart from devices because it moves.
CREATE TABLE device_reads (
    device_id    TEXT PRIMARY KEY,
    last_read_at TIMESTAMP NOT NULL
) WITHOUT ROWID;

CREATE TABLE groups (
    tenant      TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL,
    created_at  TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE group_members (
    tenant     TEXT NOT NULL,
    group_name TEXT NOT NULL,
    device_id  TEXT NOT NULL,
    PRIMARY KEY (tenant, group_name, device_id)
) WITHOUT ROWID;
CREATE INDEX group_members_device ON group_members (device_id);

CREATE TABLE tokens (
    id         TEXT PRIMARY KEY,
    tenant     TEXT NOT NULL,
    name       TEXT NOT NULL,
    scopes     TEXT NOT NULL,
    hash       BLOB NOT NULL UNIQUE,
    created_at TIMESTAMP NOT NULL,
    expires_at TIMESTAMP
);
CREATE INDEX tokens_tenant ON tokens (tenant, id);

-- A command and what its operations add up to. queued is what total leaves over. Only what does not move is indexed; running
-- flips once.
CREATE TABLE commands (
    seq           INTEGER PRIMARY KEY AUTOINCREMENT,
    id            TEXT NOT NULL UNIQUE,
    tenant        TEXT NOT NULL,
    parent_id     TEXT,
    kind          TEXT NOT NULL,
    mode          TEXT NOT NULL,
    priority      INTEGER NOT NULL CHECK (priority BETWEEN 0 AND 9),
    selector      TEXT NOT NULL,
    items         TEXT NOT NULL,
    params        TEXT,
    max_age_us    INTEGER NOT NULL,
    max_attempts  INTEGER NOT NULL,
    issued_by     TEXT NOT NULL,
    traceparent   TEXT NOT NULL,
    created_at    TIMESTAMP NOT NULL,
    not_before    TIMESTAMP,
    expires_at    TIMESTAMP NOT NULL,
    expanding     BOOLEAN NOT NULL,
    expanded_to   TEXT NOT NULL,
    made          INTEGER NOT NULL,
    cancelled_at  TIMESTAMP,
    running       BOOLEAN NOT NULL,
    finished_at   TIMESTAMP,
    version       INTEGER NOT NULL,
    shown_expired BOOLEAN NOT NULL DEFAULT FALSE,
    total         INTEGER NOT NULL,
    sent          INTEGER NOT NULL,
    delivered     INTEGER NOT NULL,
    accepted      INTEGER NOT NULL,
    succeeded     INTEGER NOT NULL,
    failed        INTEGER NOT NULL,
    expired       INTEGER NOT NULL,
    cancelled     INTEGER NOT NULL,
    dead          INTEGER NOT NULL,
    CHECK (running = (finished_at IS NULL))
);
CREATE INDEX commands_tenant ON commands (tenant, seq);
CREATE INDEX commands_created ON commands (tenant, created_at, seq);
CREATE INDEX commands_kind ON commands (tenant, kind, seq) WHERE kind <> 'meter.read';
CREATE INDEX commands_running ON commands (tenant, seq) WHERE running;
CREATE INDEX commands_due ON commands (expires_at) WHERE running;
CREATE INDEX commands_cancelled ON commands (cancelled_at) WHERE running AND cancelled_at IS NOT NULL;
CREATE INDEX commands_timed ON commands (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX commands_expanding ON commands (seq) WHERE expanding;
CREATE INDEX commands_finished ON commands (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE command_errors (
    command_id TEXT NOT NULL,
    code       TEXT NOT NULL,
    n          INTEGER NOT NULL,
    PRIMARY KEY (command_id, code)
) WITHOUT ROWID;

CREATE TABLE idempotency (
    tenant     TEXT NOT NULL,
    key        TEXT NOT NULL,
    body_hash  BLOB NOT NULL,
    command_id TEXT NOT NULL,
    created_at TIMESTAMP NOT NULL,
    PRIMARY KEY (tenant, key)
) WITHOUT ROWID;

-- One command on one device: the queue entry and the result. No index, and no predicate of one, names a column that
-- moves while the operation is open (state, next_at, lease_until, ...). open and outcome change once, when it ends.
CREATE TABLE operations (
    command_id     TEXT NOT NULL,
    device_id      TEXT NOT NULL,
    tenant         TEXT NOT NULL,
    endpoint_id    TEXT NOT NULL,
    partition      INTEGER NOT NULL,
    kind           TEXT NOT NULL,
    priority       INTEGER NOT NULL,
    seq            INTEGER NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('queued', 'sent', 'delivered', 'accepted', 'succeeded',
                                                              'failed', 'expired', 'cancelled', 'dead')),
    open           BOOLEAN NOT NULL CHECK (open = (state IN ('queued', 'sent', 'delivered', 'accepted'))),
    outcome        TEXT, -- the state it ended in; NULL while it is open
    delivery       TEXT NOT NULL CHECK (delivery IN ('never_sent', 'maybe_sent', 'acked')),
    attempts       INTEGER NOT NULL,
    max_attempts   INTEGER NOT NULL,
    next_at        TIMESTAMP NOT NULL,
    created_at     TIMESTAMP NOT NULL,
    expires_at     TIMESTAMP NOT NULL,
    updated_at     TIMESTAMP NOT NULL,
    error_code     TEXT,
    error_message  TEXT,
    device         TEXT NOT NULL,
    readings       TEXT,
    from_stock     BOOLEAN NOT NULL,
    late_result_at TIMESTAMP,
    moves          TEXT NOT NULL,
    version        INTEGER NOT NULL,
    changed        INTEGER NOT NULL,
    message_id     TEXT,
    gateway        TEXT,
    epoch          INTEGER,
    lease_until    TIMESTAMP,
    PRIMARY KEY (command_id, device_id)
);
-- The queues: what waits for an endpoint, in the order in which it is sent.
-- It alone says what is open in these words: a query for a queue that does the same cannot be led to another index of what is
-- open, however few rows the planner believes there are.
CREATE INDEX operations_queue ON operations (partition, endpoint_id, priority DESC, seq, device_id) WHERE outcome IS NULL;
-- The operations centre: newest first, of all, of a device, of an endpoint, of a code. What is open and what has ended are
-- apart, the latter by its outcome, so that each operation is in one of the two, and a list without a state merges them.
-- state itself must not be indexed: outcome is, and it is written once. What is open of an endpoint is in its queue; what
-- is in a state that moves is found by its command, which counts it. Most operations read meters: the kind is indexed of
-- the others only.
CREATE INDEX operations_open ON operations (tenant, created_at, seq, device_id) WHERE open;
CREATE INDEX operations_open_command ON operations (seq, device_id) WHERE open;
CREATE INDEX operations_open_device ON operations (tenant, device_id, created_at, seq) WHERE open;
CREATE INDEX operations_open_kind ON operations (tenant, kind, created_at, seq, device_id) WHERE open AND kind <> 'meter.read';
CREATE INDEX operations_ended ON operations (tenant, outcome, created_at, seq, device_id) WHERE outcome IS NOT NULL;
CREATE INDEX operations_ended_device ON operations (tenant, device_id, outcome, created_at, seq) WHERE outcome IS NOT NULL;
CREATE INDEX operations_ended_endpoint ON operations (tenant, endpoint_id, outcome, created_at, seq, device_id) WHERE outcome IS NOT NULL;
CREATE INDEX operations_ended_code ON operations (tenant, error_code, outcome, created_at, seq, device_id) WHERE error_code IS NOT NULL;
CREATE INDEX operations_ended_kind ON operations (tenant, kind, outcome, created_at, seq, device_id) WHERE outcome IS NOT NULL AND kind <> 'meter.read';

CREATE TABLE readings (
    device_id   TEXT NOT NULL,
    item        TEXT NOT NULL,
    read_at     TIMESTAMP NOT NULL,
    revision    INTEGER NOT NULL,
    value       TEXT NOT NULL,
    unit        TEXT NOT NULL,
    received_at TIMESTAMP NOT NULL,
    quality     TEXT NOT NULL CHECK (quality IN ('valid', 'estimated', 'suspect', 'invalid')),
    late        BOOLEAN NOT NULL,
    command_id  TEXT,
    tenant      TEXT NOT NULL,
    PRIMARY KEY (device_id, item, read_at, revision)
) WITHOUT ROWID;

CREATE TABLE events (
    id          TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    endpoint_id TEXT NOT NULL,
    device_id   TEXT NOT NULL,
    type        TEXT NOT NULL,
    at          TIMESTAMP NOT NULL,
    received_at TIMESTAMP NOT NULL,
    data        TEXT NOT NULL,
    key         TEXT NOT NULL,
    UNIQUE (endpoint_id, key)
);
CREATE INDEX events_tenant ON events (tenant, received_at, id);
CREATE INDEX events_device ON events (tenant, device_id, received_at, id);

CREATE TABLE dead_letters (
    id             TEXT PRIMARY KEY,
    tenant         TEXT NOT NULL,
    source         TEXT NOT NULL,
    cause          TEXT NOT NULL,
    detail         TEXT NOT NULL,
    endpoint_id    TEXT NOT NULL,
    device_id      TEXT NOT NULL,
    command_id     TEXT NOT NULL,
    kind           TEXT NOT NULL,
    payload        BLOB,
    key            TEXT NOT NULL UNIQUE,
    created_at     TIMESTAMP NOT NULL,
    status         TEXT NOT NULL CHECK (status IN ('open', 'replayed', 'discarded')),
    decided_by     TEXT NOT NULL DEFAULT '',
    decided_at     TIMESTAMP,
    new_command_id TEXT NOT NULL DEFAULT ''
);
CREATE INDEX dead_letters_tenant ON dead_letters (tenant, created_at, id);

-- The uplink log of gateways that have no Redis for it.
CREATE TABLE uplink_log (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    partition   INTEGER NOT NULL,
    endpoint_id TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    gateway     TEXT NOT NULL,
    kind        TEXT NOT NULL,
    payload     BLOB NOT NULL,
    crc         INTEGER NOT NULL,
    appended_at TIMESTAMP NOT NULL
);
CREATE INDEX uplink_log_partition ON uplink_log (partition, seq);

-- +goose Down
DROP TABLE uplink_log;
DROP TABLE dead_letters;
DROP TABLE events;
DROP TABLE readings;
DROP TABLE operations;
DROP TABLE idempotency;
DROP TABLE command_errors;
DROP TABLE commands;
DROP TABLE tokens;
DROP TABLE group_members;
DROP TABLE groups;
DROP TABLE device_reads;
DROP TABLE devices;
DROP TABLE workers;
DROP TABLE partitions;
DROP TABLE settings;
