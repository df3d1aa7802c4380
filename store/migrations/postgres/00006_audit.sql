-- +goose Up

-- Who did what to which object. Entries are added and never changed. Commands that were issued are not entered a second time:
-- their rows say who asked, and from where.
CREATE TABLE audit (
    id          text COLLATE "C" PRIMARY KEY,
    tenant      text COLLATE "C" NOT NULL,
    at          timestamptz NOT NULL,
    actor_id    text COLLATE "C" NOT NULL,
    actor_name  text NOT NULL,
    action      text COLLATE "C" NOT NULL,
    object_kind text COLLATE "C" NOT NULL,
    object_id   text COLLATE "C" NOT NULL,
    request_id  text NOT NULL,
    remote      text NOT NULL,
    before      text,
    after       text
);
CREATE INDEX audit_tenant ON audit (tenant, at, id);
CREATE INDEX audit_object ON audit (tenant, object_id, at, id) WHERE object_id <> '';

-- +goose StatementBegin
CREATE FUNCTION audit_is_fixed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'entries of the audit log are never changed';
END
$$;
-- +goose StatementEnd
CREATE TRIGGER audit_is_fixed BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_is_fixed();

ALTER TABLE commands
    ADD COLUMN issued_name text NOT NULL DEFAULT '',
    ADD COLUMN issued_request text NOT NULL DEFAULT '',
    ADD COLUMN issued_from text NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE commands DROP COLUMN issued_name, DROP COLUMN issued_request, DROP COLUMN issued_from;
DROP TABLE audit;
DROP FUNCTION audit_is_fixed;
