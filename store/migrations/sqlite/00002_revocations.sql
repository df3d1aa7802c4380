-- +goose Up

-- What gateways are to let in no more: written in the transaction that takes it back, read once a second, deleted after a
-- day. There is one writer at a time, so ids become visible in their order; AUTOINCREMENT never gives one twice.
CREATE TABLE revocations (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    device_id  TEXT,
    token_id   TEXT,
    revoked_at TIMESTAMP NOT NULL,
    CHECK ((device_id IS NULL) <> (token_id IS NULL))
);
CREATE INDEX revocations_at ON revocations (revoked_at);

-- +goose Down
DROP TABLE revocations;
