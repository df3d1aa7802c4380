// Package store is the record: what was commanded, what became of it and what was read, in PostgreSQL or in one SQLite
// file. [DB] is what the command and fleet packages see of it; [UplinkLog] is the uplink log for installations that keep
// it in SQL.
//
// Both databases run the same statements wherever they can; what differs is in dialect.go. Locks are always taken in the
// same order, so that transactions wait for each other and never in a circle: idempotency keys, partitions, devices, the
// tenant's fleet lock, operations by key, commands by id, then everything that is only added to.
package store
