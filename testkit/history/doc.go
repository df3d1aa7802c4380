// Package history is what the parties of a run wrote down of it, outside the system: devices, clients of the API and those
// who break things. A history is a directory of files, one per process that writes, of a line of JSON per event. A checker
// reads them all after the run and compares them with what the system has stored.
package history
