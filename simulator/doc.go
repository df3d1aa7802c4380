// Package simulator is a fleet of meters and IPCs over real MQTT, with faults to order: for load tests, for the demo and
// for the tests of other packages. Its endpoints keep the endpoint's half of the contract: a command is acknowledged
// after it was taken up, a result leaves the journal only after its PUBACK, a repeat is answered from memory, what is
// over is dropped. What was acknowledged is written to a Ledger, which Check compares with what the API has stored.
package simulator
