// Package door lets clients in as far as where MQTT begins: it accepts connections, gives them bounded places until they are
// admitted, reads PROXY headers, and does the handshakes of TLS and WebSocket. It knows nothing of MQTT, nor of meters.
//
// A Listener hands over each connection as a Conn: from then on whoever took it reads CONNECT, says whether the client is
// Admitted, and the connection is closed when he returns. Until Admitted it has ConnectTimeout in all, whatever the layers
// above ask for, and may lose its place: gate has the rules. turns shares the processors among TLS handshakes. A write to a
// Conn never waits for the network: socket has the rules.
package door
