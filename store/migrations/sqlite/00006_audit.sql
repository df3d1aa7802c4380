-- +goose Up

-- Who did what to which object. Entries are added and never changed. Commands that were issued are not entered a second time:
-- their rows say who asked, and from where.
CREATE TABLE audit (
    id          TEXT PRIMARY KEY,
    tenant      TEXT NOT NULL,
    at          TIMESTAMP NOT NULL,
    actor_id    TEXT NOT NULL,
    actor_name  TEXT NOT NULL,
    action      TEXT NOT NULL,
    object_kind TEXT NOT NULL,
    object_id   TEXT NOT NULL,
    request_id  TEXT NOT NULL,
    remote      TEXT NOT NULL,
    before      TEXT,
    after       TEXT
);
CREATE INDEX audit_tenant ON audit (tenant, at, id);
CREATE INDEX audit_object ON audit (tenant, object_id, at, id) WHERE object_id <> '';

-- +goose StatementBegin
CREATE TRIGGER audit_is_fixed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'entries of the audit log are never changed');
END;
-- +goose StatementEnd

ALTER TABLE commands ADD COLUMN issued_name TEXT NOT NULL DEFAULT '';
ALTER TABLE commands ADD COLUMN issued_request TEXT NOT NULL DEFAULT '';
ALTER TABLE commands ADD COLUMN issued_from TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE commands DROP COLUMN issued_name;
ALTER TABLE commands DROP COLUMN issued_request;
ALTER TABLE commands DROP COLUMN issued_from;
DROP TABLE audit;
