-- +goose Up

-- A new owner of partitions looks for commands whose operations were answered after their end: the one before it may not have
-- brought that into the live state. The column is written once, for few operations, so the others' updates stay as cheap.
CREATE INDEX operations_late ON operations (late_result_at) WHERE late_result_at IS NOT NULL;

-- +goose Down
DROP INDEX operations_late;
