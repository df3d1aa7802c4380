-- +goose Up

-- What became of operations in each minute, as workers count it, for charts; kept for two days.
CREATE TABLE minutes (
    at        timestamptz NOT NULL,
    tenant    text COLLATE "C" NOT NULL,
    readings  bigint NOT NULL,
    succeeded bigint NOT NULL,
    failed    bigint NOT NULL,
    expired   bigint NOT NULL,
    dead      bigint NOT NULL,
    PRIMARY KEY (at, tenant)
);

CREATE TABLE minute_codes (
    at     timestamptz NOT NULL,
    tenant text COLLATE "C" NOT NULL,
    code   text COLLATE "C" NOT NULL,
    n      bigint NOT NULL,
    PRIMARY KEY (at, tenant, code)
);

-- What of the uplink log waits, as each worker sees it.
CREATE TABLE backlogs (
    owner     text PRIMARY KEY,
    at        timestamptz NOT NULL,
    entries   bigint NOT NULL,
    oldest_us bigint NOT NULL,
    bound     bigint NOT NULL
);

-- Those who speak MQTT themselves are few beside their meters.
CREATE INDEX devices_speaking ON devices (tenant, id) WHERE kind <> 'meter';

-- +goose Down
DROP INDEX devices_speaking;
DROP TABLE backlogs;
DROP TABLE minute_codes;
DROP TABLE minutes;
