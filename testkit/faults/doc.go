// Package faults breaks a running cluster on purpose: a table of faults, each with what it does, how long it is held, how it
// heals and how it is known that it really hit; schedules of them that a seed decides; and what runs a schedule.
//
// A fault that did not hit is an error, not a success: whoever ran it has tested nothing.
package faults
