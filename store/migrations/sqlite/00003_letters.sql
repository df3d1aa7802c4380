-- +goose Up

-- What is known of the uplink of a dead letter, what it came from, who decided it, and what came of that. replay_in is the
-- partition whose owner is to handle it again: the row is its place in the queue.
ALTER TABLE dead_letters ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN gateway TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN received_at TIMESTAMP;
ALTER TABLE dead_letters ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE dead_letters ADD COLUMN parent_id TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN attempt INTEGER NOT NULL DEFAULT 1;
ALTER TABLE dead_letters ADD COLUMN decision_id TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN decided_name TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN decided_request TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN decided_from TEXT NOT NULL DEFAULT '';
ALTER TABLE dead_letters ADD COLUMN replay_in INTEGER;
ALTER TABLE dead_letters ADD COLUMN handled_at TIMESTAMP;
ALTER TABLE dead_letters ADD COLUMN again INTEGER NOT NULL DEFAULT 0;
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
DROP INDEX dead_letters_open;
DROP INDEX dead_letters_open_endpoint;
DROP INDEX dead_letters_endpoint;
DROP INDEX dead_letters_command;
DROP INDEX dead_letters_new_command;
DROP INDEX dead_letters_parent;
DROP INDEX dead_letters_decision;
DROP INDEX dead_letters_replay;
ALTER TABLE dead_letters DROP COLUMN epoch;
ALTER TABLE dead_letters DROP COLUMN gateway;
ALTER TABLE dead_letters DROP COLUMN received_at;
ALTER TABLE dead_letters DROP COLUMN bytes;
ALTER TABLE dead_letters DROP COLUMN parent_id;
ALTER TABLE dead_letters DROP COLUMN attempt;
ALTER TABLE dead_letters DROP COLUMN decision_id;
ALTER TABLE dead_letters DROP COLUMN decided_name;
ALTER TABLE dead_letters DROP COLUMN decided_request;
ALTER TABLE dead_letters DROP COLUMN decided_from;
ALTER TABLE dead_letters DROP COLUMN replay_in;
ALTER TABLE dead_letters DROP COLUMN handled_at;
ALTER TABLE dead_letters DROP COLUMN again;
