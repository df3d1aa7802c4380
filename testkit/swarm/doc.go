// Package swarm plays thousands of MQTT devices from one goroutine: sockets without a goroutine each, over epoll(7), and packets
// that are written as bytes. It is the load side of benchmarks: what it costs is small beside what it measures, and can be told
// apart from it. It does what a device of the wire format does and no more: it signs in, acknowledges commands, answers each of their
// targets at once with one reading, publishes readings nobody asked for, comes back when its connection is lost, and publishes
// again what was not acknowledged. It is no [meterline/simulator]: nothing is late, refused or wrong.
//
// Every reading has a number of its own in its swarm, which its value and its time tell: whoever looks at the record can say which
// are missing, twice or changed.
//
// It needs Linux.
package swarm
