// Package broker is the MQTT edge: endpoints (meters and IPCs) and service clients connect here.
//
// mochi-mqtt does the codec, the handshake, pings, and plain MQTT for service clients. What is promised to endpoints is
// done here, one concern a file: listener and conn (sockets that never make anybody wait), admission (who may come in),
// acl (what they may do), endpoint (their packets), uplink (append first, PUBACK then), delivery (commands, with packet
// ids of our own), presence (the newest session wins) and fanout (uplinks for service clients). link is all that these
// know of a connection.
package broker
