// Package checker compares what the parties of a run wrote down (package history) with what the system has stored, and says
// where the two cannot both be true: acknowledged and not stored, stored and never sent, ended twice, seen by the wrong
// tenant. It reads the wire's JSON with structs of its own, so that a mistake of the product's decoders is not made twice.
package checker
