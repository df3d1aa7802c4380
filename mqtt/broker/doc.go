// Package broker is the MQTT edge: endpoints (meters and IPCs) and service clients connect here.
//
// Connections come from package door by entrance. A wire takes packets off one that package frame found sound, and writes to
// it; front reads CONNECT and asks admission (with credentials, tokens, certified, bans and flapping) who may come in. Then
// loop serves an endpoint, and mochi-mqtt a service client or a backend: mochi is where the two meet, and hooks take every
// packet but pings to services.
//
// What is promised to endpoints has one concern a file: acl (what they may do), pace (how fast), uplink (append first,
// PUBACK then), delivery (commands, with packet ids of our own), presence (the newest session wins), revocation (what is
// taken back) and fanout (uplinks for service clients). Service clients have their sessions from package plain. link is all
// that these know of a connection; sparing keeps them from flooding the log.
package broker
