// Package meterread is the vocabulary of metering: items (OBIS codes), readings with their quality, and the
// payloads that endpoints publish. It imports nothing of ours, does no I/O and keeps no state.
package meterread
