-- +goose Up

-- What all processes of an installation share.
CREATE TABLE settings (
    key   text PRIMARY KEY,
    value text NOT NULL
);

-- Who owns which part of the endpoints, and how far its uplink log has been taken over. Few rows, many updates: a page
-- each keeps them HOT.
CREATE TABLE partitions (
    n              integer PRIMARY KEY,
    owner          text NOT NULL DEFAULT '',
    epoch          bigint NOT NULL DEFAULT 0,
    lease_until    timestamptz,
    idle_since     timestamptz, -- what was committed before it has been carried into the live state
    log_generation text NOT NULL DEFAULT '',
    position       text NOT NULL DEFAULT ''
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE workers (
    owner   text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);

CREATE TABLE devices (
    id          text COLLATE "C" PRIMARY KEY,
    tenant      text COLLATE "C" NOT NULL,
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('direct', 'ipc', 'meter')),
    endpoint_id text COLLATE "C" NOT NULL,
    partition   integer NOT NULL,
    route       text NOT NULL,
    tags        jsonb NOT NULL,
    enabled     boolean NOT NULL,
    secret_mac  bytea,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE INDEX devices_tenant ON devices (tenant, id);
CREATE INDEX devices_endpoint ON devices (endpoint_id, id);
CREATE INDEX devices_tags ON devices USING gin (tags jsonb_path_ops);

-- When a device was last read, apart from devices because it moves.
CREATE TABLE device_reads (
    device_id    text COLLATE "C" PRIMARY KEY,
    last_read_at timestamptz NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE groups (
    tenant      text COLLATE "C" NOT NULL,
    name        text COLLATE "C" NOT NULL,
    description text NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant, name)
);

CREATE TABLE group_members (
    tenant     text COLLATE "C" NOT NULL,
    group_name text COLLATE "C" NOT NULL,
    device_id  text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, group_name, device_id)
);
CREATE INDEX group_members_device ON group_members (device_id);

CREATE TABLE tokens (
    id         text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    name       text NOT NULL,
    scopes     text NOT NULL,
    hash       bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL,
    expires_at timestamptz
);
CREATE INDEX tokens_tenant ON tokens (tenant, id);

-- A command and what its operations add up to. queued is what total leaves over. Only what does not move is indexed, so
-- that counting is a HOT update; running flips once.
CREATE TABLE commands (
    seq           bigserial PRIMARY KEY,
    id            text COLLATE "C" NOT NULL UNIQUE,
    tenant        text COLLATE "C" NOT NULL,
    parent_id     text COLLATE "C",
    kind          text NOT NULL,
    mode          text NOT NULL,
    priority      integer NOT NULL CHECK (priority BETWEEN 0 AND 9),
    selector      text NOT NULL,
    items         text NOT NULL,
    params        text,
    max_age_us    bigint NOT NULL,
    max_attempts  integer NOT NULL,
    issued_by     text NOT NULL,
    traceparent   text NOT NULL,
    created_at    timestamptz NOT NULL,
    not_before    timestamptz,
    expires_at    timestamptz NOT NULL,
    expanding     boolean NOT NULL,
    expanded_to   text COLLATE "C" NOT NULL,
    made          integer NOT NULL,
    cancelled_at  timestamptz,
    running       boolean NOT NULL,
    finished_at   timestamptz,
    version       bigint NOT NULL,
    shown_expired boolean NOT NULL DEFAULT FALSE,
    total         integer NOT NULL,
    sent          integer NOT NULL,
    delivered     integer NOT NULL,
    accepted      integer NOT NULL,
    succeeded     integer NOT NULL,
    failed        integer NOT NULL,
    expired       integer NOT NULL,
    cancelled     integer NOT NULL,
    dead          integer NOT NULL,
    CHECK (running = (finished_at IS NULL))
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
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
    command_id text COLLATE "C" NOT NULL,
    code       text COLLATE "C" NOT NULL,
    n          integer NOT NULL,
    PRIMARY KEY (command_id, code)
) WITH (fillfactor = 70);

CREATE TABLE idempotency (
    tenant     text COLLATE "C" NOT NULL,
    key        text COLLATE "C" NOT NULL,
    body_hash  bytea NOT NULL,
    command_id text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, key)
);

-- One command on one device: the queue entry and the result. No index, and no predicate of one, names a column that
-- moves while the operation is open (state, next_at, lease_until, ...), so claiming, delivering and accepting are HOT
-- updates. open and outcome change once, when it ends.
CREATE TABLE operations (
    command_id     text COLLATE "C" NOT NULL,
    device_id      text COLLATE "C" NOT NULL,
    tenant         text COLLATE "C" NOT NULL,
    endpoint_id    text COLLATE "C" NOT NULL,
    partition      integer NOT NULL,
    kind           text NOT NULL,
    priority       integer NOT NULL,
    seq            bigint NOT NULL,
    state          text COLLATE "C" NOT NULL CHECK (state IN ('queued', 'sent', 'delivered', 'accepted', 'succeeded',
                                                              'failed', 'expired', 'cancelled', 'dead')),
    open           boolean NOT NULL CHECK (open = (state IN ('queued', 'sent', 'delivered', 'accepted'))),
    outcome        text COLLATE "C", -- the state it ended in; NULL while it is open
    delivery       text NOT NULL CHECK (delivery IN ('never_sent', 'maybe_sent', 'acked')),
    attempts       integer NOT NULL,
    max_attempts   integer NOT NULL,
    next_at        timestamptz NOT NULL,
    created_at     timestamptz NOT NULL,
    expires_at     timestamptz NOT NULL,
    updated_at     timestamptz NOT NULL,
    error_code     text COLLATE "C",
    error_message  text,
    device         text NOT NULL,
    readings       text,
    from_stock     boolean NOT NULL,
    late_result_at timestamptz,
    moves          text NOT NULL,
    version        bigint NOT NULL,
    changed        bigint NOT NULL,
    message_id     text,
    gateway        text,
    epoch          bigint,
    lease_until    timestamptz,
    PRIMARY KEY (command_id, device_id)
) WITH (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1,
        autovacuum_analyze_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
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
    device_id   text COLLATE "C" NOT NULL,
    item        text COLLATE "C" NOT NULL,
    read_at     timestamptz NOT NULL,
    revision    integer NOT NULL,
    value       text NOT NULL,
    unit        text NOT NULL,
    received_at timestamptz NOT NULL,
    quality     text NOT NULL CHECK (quality IN ('valid', 'estimated', 'suspect', 'invalid')),
    late        boolean NOT NULL,
    command_id  text COLLATE "C",
    tenant      text COLLATE "C" NOT NULL,
    PRIMARY KEY (device_id, item, read_at, revision)
);

CREATE TABLE events (
    id          text COLLATE "C" PRIMARY KEY,
    tenant      text COLLATE "C" NOT NULL,
    endpoint_id text COLLATE "C" NOT NULL,
    device_id   text COLLATE "C" NOT NULL,
    type        text NOT NULL,
    at          timestamptz NOT NULL,
    received_at timestamptz NOT NULL,
    data        text NOT NULL,
    key         text COLLATE "C" NOT NULL,
    UNIQUE (endpoint_id, key)
);
CREATE INDEX events_tenant ON events (tenant, received_at, id);
CREATE INDEX events_device ON events (tenant, device_id, received_at, id);

CREATE TABLE dead_letters (
    id             text COLLATE "C" PRIMARY KEY,
    tenant         text COLLATE "C" NOT NULL,
    source         text NOT NULL,
    cause          text NOT NULL,
    detail         text NOT NULL,
    endpoint_id    text COLLATE "C" NOT NULL,
    device_id      text COLLATE "C" NOT NULL,
    command_id     text COLLATE "C" NOT NULL,
    kind           text NOT NULL,
    payload        bytea,
    key            text COLLATE "C" NOT NULL UNIQUE,
    created_at     timestamptz NOT NULL,
    status         text NOT NULL CHECK (status IN ('open', 'replayed', 'discarded')),
    decided_by     text NOT NULL DEFAULT '',
    decided_at     timestamptz,
    new_command_id text COLLATE "C" NOT NULL DEFAULT ''
);
CREATE INDEX dead_letters_tenant ON dead_letters (tenant, created_at, id);

-- The uplink log of gateways that have no Redis for it.
CREATE TABLE uplink_log (
    partition   integer NOT NULL,
    seq         bigserial NOT NULL,
    endpoint_id text COLLATE "C" NOT NULL,
    epoch       bigint NOT NULL,
    gateway     text NOT NULL,
    kind        text NOT NULL,
    payload     bytea NOT NULL,
    crc         bigint NOT NULL,
    appended_at timestamptz NOT NULL,
    PRIMARY KEY (partition, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 1);

-- +goose Down
DROP TABLE uplink_log, dead_letters, events, readings, operations, idempotency, command_errors, commands, tokens,
    group_members, groups, device_reads, devices, workers, partitions, settings;
