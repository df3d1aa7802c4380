-- +goose Up

-- What gateways are to let in no more: written in the transaction that takes it back, read by every gateway once a second,
-- deleted after a day. Ids become visible out of order, so a reader remembers tx instead: the oldest transaction that was
-- still running when it looked.
CREATE TABLE revocations (
    id         bigserial PRIMARY KEY,
    tx         bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
    device_id  text COLLATE "C",
    token_id   text COLLATE "C",
    revoked_at timestamptz NOT NULL,
    CHECK ((device_id IS NULL) <> (token_id IS NULL))
);
CREATE INDEX revocations_tx ON revocations (tx, id);
CREATE INDEX revocations_at ON revocations (revoked_at);

-- +goose Down
DROP TABLE revocations;
