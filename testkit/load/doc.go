// Package load puts a running installation to work and writes down what devices and clients did and saw. Its devices speak
// real MQTT and keep what has no PUBACK; its clients post commands, repeat what they got no answer to, poll, cancel and try
// again; some devices lie. What it writes is for package checker.
package load
