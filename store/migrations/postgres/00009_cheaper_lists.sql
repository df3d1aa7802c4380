-- +goose Up

-- No two rows of these have the same key: looking for such is in vain.
ALTER INDEX operations_queue SET (deduplicate_items = off);
ALTER INDEX operations_open SET (deduplicate_items = off);
ALTER INDEX operations_open_command SET (deduplicate_items = off);
ALTER INDEX operations_open_device SET (deduplicate_items = off);
ALTER INDEX operations_open_kind SET (deduplicate_items = off);
ALTER INDEX operations_ended SET (deduplicate_items = off);
ALTER INDEX operations_ended_device SET (deduplicate_items = off);
ALTER INDEX operations_ended_endpoint SET (deduplicate_items = off);
ALTER INDEX operations_ended_kind SET (deduplicate_items = off);

-- +goose Down
