// Package command is the heart: commands, their operations and the one state machine; Service, which takes commands
// from users; and Worker, the one owner of a set of partitions, which dispatches, collects and sweeps. It sees other
// packages only through the small interfaces it declares in ports.go.
package command
