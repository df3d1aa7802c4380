-- +goose Up

-- What is known of the uplink of a dead letter, what it came from, who decided it, and what came of that. replay_in is the
-- partition whose owner is to handle it again: the row is its place in the queue.
ALTER TABLE dead_letters
    ADD COLUMN epoch bigint NOT NULL DEFAULT 0,
    ADD COLUMN gateway text NOT NULL DEFAULT '',
    ADD COLUMN received_at timestamptz,
    ADD COLUMN bytes integer NOT NULL DEFAULT 0,
    ADD COLUMN parent_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN attempt integer NOT NULL DEFAULT 1,
    ADD COLUMN decision_id text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN decided_name text NOT NULL DEFAULT '',
    ADD COLUMN decided_request text NOT NULL DEFAULT '',
    ADD COLUMN decided_from text NOT NULL DEFAULT '',
    ADD COLUMN replay_in integer,
    ADD COLUMN handled_at timestamptz,
    ADD COLUMN again integer NOT NULL DEFAULT 0;
UPDATE dead_letters SET bytes = length(payload) WHERE payload IS NOT NULL;
CREATE INDEX dead_letters_open ON dead_letters (tenant, cause, created_at, id) WHERE status = 'open';
CREATE INDEX dead_letters_open_endpoint ON dead_letters (endpoint_id, source, bytes) WHERE status = 'open';
CREATE INDEX dead_letters_endpoint ON dead_letters (tenant, endpoint_id, created_at, id);
CREATE INDEX dead_letters_command ON dead_letters (command_id, device_id) WHERE command_id <> '';
CREATE INDEX dead_letters_new_command ON dead_letters (new_command_id, device_id) WHERE new_command_id <> '';
CREATE INDEX dead_letters_parent ON dead_letters (parent_id) WHERE parent_id <> '';
CREATE INDEX dead_letters_decision ON dead_letters (decision_id) WHERE decision_id <> '';
CREATE INDEX dead_letters_replay ON dead_letters (replay_in, created_at, id) WHERE replay_in IS NOT NULL;

-- +goose Down
DROP INDEX dead_letters_open, dead_letters_open_endpoint, dead_letters_endpoint, dead_letters_command, dead_letters_new_command,
    dead_letters_parent, dead_letters_decision, dead_letters_replay;
ALTER TABLE dead_letters
    DROP COLUMN epoch, DROP COLUMN gateway, DROP COLUMN received_at, DROP COLUMN bytes, DROP COLUMN parent_id,
    DROP COLUMN attempt, DROP COLUMN decision_id, DROP COLUMN decided_name, DROP COLUMN decided_request,
    DROP COLUMN decided_from, DROP COLUMN replay_in, DROP COLUMN handled_at, DROP COLUMN again;
