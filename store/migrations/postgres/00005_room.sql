-- +goose Up

-- A claim of a thousand operations updates all rows of a page in one transaction, and what it replaces can be pruned only by
-- the next. Unless a page has room for all of its rows twice, the versions that do not fit go to other pages and are entered
-- into every index again. The same goes for the counts of many small commands, and for when devices were read. It holds for
-- the pages that are filled from now on, so it takes no time.
ALTER TABLE operations SET (fillfactor = 40);
ALTER TABLE commands SET (fillfactor = 45);
ALTER TABLE device_reads SET (fillfactor = 45);

-- +goose Down
ALTER TABLE operations SET (fillfactor = 60);
ALTER TABLE commands SET (fillfactor = 60);
ALTER TABLE device_reads SET (fillfactor = 70);
