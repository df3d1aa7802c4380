// Package commandtest has a record and an uplink log in memory, for simulations of what stands on them. They keep the
// promises of command.Ledger, command.Book and command.Log to the letter; a test of package store holds the record
// against the real one. Nothing in them is safe for concurrent use.
package commandtest
