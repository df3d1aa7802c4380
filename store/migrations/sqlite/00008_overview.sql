-- +goose Up

-- What became of operations in each minute, as workers count it, for charts; kept for two days.
CREATE TABLE minutes (
    at        TIMESTAMP NOT NULL,
    tenant    TEXT NOT NULL,
    readings  INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    expired   INTEGER NOT NULL,
    dead      INTEGER NOT NULL,
    PRIMARY KEY (at, tenant)
);

CREATE TABLE minute_codes (
    at     TIMESTAMP NOT NULL,
    tenant TEXT NOT NULL,
    code   TEXT NOT NULL,
    n      INTEGER NOT NULL,
    PRIMARY KEY (at, tenant, code)
);

-- What of the uplink log waits, as each worker sees it.
CREATE TABLE backlogs (
    owner     TEXT PRIMARY KEY,
    at        TIMESTAMP NOT NULL,
    entries   INTEGER NOT NULL,
    oldest_us INTEGER NOT NULL,
    bound     INTEGER NOT NULL
);

-- Those who speak MQTT themselves are few beside their meters.
CREATE INDEX devices_speaking ON devices (tenant, id) WHERE kind <> 'meter';

-- +goose Down
DROP INDEX devices_speaking;
DROP TABLE backlogs;
DROP TABLE minute_codes;
DROP TABLE minutes;
