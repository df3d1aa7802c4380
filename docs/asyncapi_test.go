package docs_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"

	"meterline/meterread"
	"meterline/mqtt"
)

var update = flag.Bool("update", false, "write asyncapi.yaml")

// TestAsyncAPI compares asyncapi.yaml with what the code says of topics and messages. The examples and the words are written
// below. What devices, gateways and backends really send is compared with the page in cmd/backend.
func TestAsyncAPI(t *testing.T) {
	t.Parallel()
	var got bytes.Buffer
	got.WriteString("# Written by: go test ./docs -run AsyncAPI -update. Its source is asyncapi_test.go, and the schemas are those of /schemas/.\n")
	encoder := yaml.NewEncoder(&got)
	encoder.SetIndent(2)
	if err := encoder.Encode(asyncAPI(t)); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile("asyncapi.yaml", got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Error("asyncapi.yaml is not what the code says; look at the difference, then: go test ./docs -run AsyncAPI -update")
	}
}

// A topic is one that endpoints or Meterline publish to.
type topic struct {
	channel string // its name in the document
	message string
	address string
	schema  string // file of httpapi/schemas
	title   string
	summary string
	down    bool // from Meterline
	decode  func(payload []byte) error
	example []example
}

type example struct{ name, payload string }

// topics are all there are. Nobody publishes to those of groups and of all yet.
var topics = []topic{
	{
		channel: "commands", message: "command", address: mqtt.CommandTopic("{endpoint}"), schema: "down-command", down: true,
		title: "Commands for one endpoint", summary: "What an endpoint is asked to do: one command for one or more of the devices it speaks for.",
		example: []example{
			{"read a direct meter", `{"v":1,"message_id":"01a2315a-066f-79a0-9791-fea0ff36b79d","message_type":"unicast","command_id":"01a2315a-05ee-7f0d-86f2-6975893d636f",
				"kind":"meter.read","issued_at":"2026-01-31T12:00:00Z","expires_at":"2026-01-31T12:00:30Z","priority":8,"attempt":1,"items":["1-0:1.8.0"],"params":{},
				"targets":[{"device_id":"m-001","route":[]}]}`},
			{"read two meters behind an IPC", `{"v":1,"message_id":"01a2315a-0c7e-7b32-a0b4-9c4c0c0e1d52","message_type":"unicast","command_id":"01a2315a-0c41-7462-99d4-8e23aa3a6fd9",
				"kind":"meter.read","issued_at":"2026-01-31T12:00:00Z","expires_at":"2026-02-01T12:00:00Z","priority":5,"attempt":2,
				"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","items":["1-0:1.8.0","1-0:2.8.0"],"params":{},
				"targets":[{"device_id":"m-101","route":[{"bus":"com1","baud":2400},{"meter":"000000000101","protocol":"dlt645-2007"}]},
					{"device_id":"m-102","route":[{"bus":"com1","baud":2400},{"meter":"000000000102","protocol":"dlt645-2007"}],"items":["1-0:1.8.0"]}]}`},
			{"switch a relay", `{"v":1,"message_id":"01a2315a-10f0-7d11-8f0e-2f4f5f3a8c11","message_type":"unicast","command_id":"01a2315a-10e4-7b7f-a4de-20f6eab22e2d",
				"kind":"meter.relay","issued_at":"2026-01-31T12:00:00Z","expires_at":"2026-01-31T12:05:00Z","priority":5,"attempt":1,"items":null,"params":{"state":"open"},
				"targets":[{"device_id":"m-001","route":[]}]}`},
		},
	},
	{
		channel: "acks", message: "ack", address: mqtt.UplinkTopic("{endpoint}", mqtt.Ack), schema: "up-ack",
		title: "What was taken up", summary: "The endpoint has begun operations of a command, is still at them, or refuses them.",
		decode: func(b []byte) error { _, err := meterread.DecodeAck(b); return err },
		example: []example{
			{"begun", `{"v":1,"command_id":"01a2315a-0c41-7462-99d4-8e23aa3a6fd9","device_ids":["m-101","m-102"],"status":"accepted"}`},
			{"still at it", `{"v":1,"command_id":"01a2315a-0c41-7462-99d4-8e23aa3a6fd9","device_ids":["m-102"],"status":"progress"}`},
			{"refused", `{"v":1,"command_id":"01a2315a-10e4-7b7f-a4de-20f6eab22e2d","device_ids":["m-001"],"status":"rejected","code":"UNSUPPORTED_KIND","message":"no relay"}`},
		},
	},
	{
		channel: "results", message: "result", address: mqtt.UplinkTopic("{endpoint}", mqtt.Result), schema: "up-result",
		title: "What came of operations", summary: "Results of operations, of one or more devices and commands.",
		decode: func(b []byte) error { r, err := meterread.DecodeResults(b); return whole(err, r.Bad) },
		example: []example{
			{"a reading, and a meter that was silent", `{"v":1,"message_id":"r-1","results":[
				{"command_id":"01a2315a-0c41-7462-99d4-8e23aa3a6fd9","device_id":"m-101","attempt":2,"status":"ok","final":true,
					"readings":[{"item":"1-0:1.8.0","value":"1234.50","unit":"kWh","read_at":"2026-01-31T12:00:04Z","quality":"valid"}],
					"trace":{"received_at":"2026-01-31T12:00:01Z","asked_at":"2026-01-31T12:00:03Z","answered_at":"2026-01-31T12:00:04Z"}},
				{"command_id":"01a2315a-0c41-7462-99d4-8e23aa3a6fd9","device_id":"m-102","attempt":2,"status":"error","code":"BUS_TIMEOUT","message":"no answer within 3 s"}]}`},
			{"a part, more follow", `{"v":1,"message_id":"r-2","results":[{"command_id":"01a2315a-0c41-7462-99d4-8e23aa3a6fd9","device_id":"m-101","status":"ok","final":false,
				"readings":[{"item":"1-0:2.8.0","value":"3.1","unit":"kWh","read_at":"2026-01-31T12:00:05Z"}]}]}`},
			{"the relay has switched", `{"v":1,"message_id":"r-3","results":[{"command_id":"01a2315a-10e4-7b7f-a4de-20f6eab22e2d","device_id":"m-001","attempt":1,"status":"ok"}]}`},
		},
	},
	{
		channel: "readings", message: "readings", address: mqtt.UplinkTopic("{endpoint}", mqtt.Readings), schema: "up-readings",
		title: "Readings nobody asked for", summary: "Profiles, alarms with values.",
		decode: func(b []byte) error { r, err := meterread.DecodeReadings(b); return whole(err, r.Bad) },
		example: []example{
			{"two quarter hours of a profile", `{"v":1,"message_id":"p-1","readings":[
				{"device_id":"m-101","item":"1-0:1.8.0","value":"1234.50","unit":"kWh","read_at":"2026-01-31T12:00:00Z"},
				{"device_id":"m-101","item":"1-0:1.8.0","value":"1234.75","unit":"kWh","read_at":"2026-01-31T12:15:00Z","quality":"estimated"}]}`},
		},
	},
	{
		channel: "events", message: "event", address: mqtt.UplinkTopic("{endpoint}", mqtt.Event), schema: "up-event",
		title: "What happened", summary: "Hello, alarms, diagnostics; stored, and listed by GET /v1/events.",
		decode: func(b []byte) error { _, err := meterread.DecodeEvent(b); return err },
		example: []example{
			{"hello, after connecting", `{"v":1,"message_id":"e-1","type":"hello","data":{"window":16,"firmware":"2.4.1"}}`},
			{"an alarm of a meter behind an IPC", `{"v":1,"message_id":"e-2","type":"alarm","device_id":"m-102","at":"2026-01-31T12:00:00Z","data":{"code":"COVER_OPEN"}}`},
		},
	},
}

const about = `The topics of Meterline, version 1 of the wire format. Payloads are JSON in UTF-8; unknown fields are ignored.

It is told from Meterline's side: Meterline *sends* commands to endpoints and *receives* what endpoints publish. A device does the
opposite: it subscribes to ` + "`commands`" + ` and publishes to the others. Service clients, integrators with an API token, are given copies.

Presence has no topic: an endpoint is online while its session is subscribed to its commands. Endpoints may have no will, nothing
they publish is retained, and there are no wildcards for them. What a device must do beside that (sessions, repeats, limits, how a
connection ends) is in mqtt.md; the HTTP API is in openapi.yaml.`

// asyncAPI is the document.
func asyncAPI(t *testing.T) *yaml.Node {
	channels, operations, messages, schemas := object(t), object(t), object(t), object(t)
	for _, c := range topics {
		put(t, channels, c.channel, object(t,
			"address", c.address,
			"title", c.title,
			"description", c.summary,
			"messages", object(t, c.message, ref(t, "components/messages/"+c.message)),
			"parameters", object(t, "endpoint", ref(t, "components/parameters/endpoint"))))
		var examples []*yaml.Node
		for _, e := range c.example {
			examples = append(examples, object(t, "name", e.name, "payload", fromJSON(t, []byte(e.payload))))
		}
		message := object(t, "name", c.message, "title", c.title, "summary", c.summary, "contentType", "application/json",
			"payload", ref(t, "components/schemas/"+c.schema), "examples", examples)
		if c.down {
			put(t, message, "headers", ref(t, "components/schemas/command-properties"))
		}
		if c.schema != "up-readings" && c.schema != "up-event" {
			put(t, message, "correlationId", ref(t, "components/correlationIds/"+c.message))
		}
		put(t, messages, c.message, message)
		put(t, schemas, c.schema, schema(t, c.schema))
		describeOperations(t, operations, c)
	}
	put(t, schemas, "command-properties", commandProperties(t))
	components := object(t,
		"parameters", object(t, "endpoint", object(t,
			"description", "id of the device that speaks: a direct device or an IPC; 1 to 64 of A-Z a-z 0-9 . _ -. Only its own.",
			"examples", []string{"m-001", "ipc-1"})),
		"correlationIds", object(t,
			"command", correlation(t, "/command_id"),
			"ack", correlation(t, "/command_id"),
			"result", correlation(t, "/results/0/command_id")),
		"securitySchemes", securitySchemes(t),
		"messages", messages, "schemas", schemas)
	return object(t,
		"asyncapi", "3.0.0",
		"id", "urn:meterline:wire:v1",
		"info", object(t,
			"title", "Meterline, on the wire", "version", "1.0.0", "description", about,
			"license", object(t, "name", "Apache 2.0", "url", "https://www.apache.org/licenses/LICENSE-2.0")),
		"defaultContentType", "application/json",
		"servers", servers(t), "channels", channels, "operations", operations, "components", components)
}

// describeOperations says who sends what on a topic, and who gets it.
func describeOperations(t *testing.T, operations *yaml.Node, c topic) {
	name, channel := c.message, ref(t, "channels/"+c.channel)
	operation := func(action, title, summary string, by []string, bindings *yaml.Node) *yaml.Node {
		var security []*yaml.Node
		for _, scheme := range by {
			security = append(security, ref(t, "components/securitySchemes/"+scheme))
		}
		return object(t, "action", action, "channel", channel, "title", title, "summary", summary, "security", security,
			"messages", []*yaml.Node{ref(t, "channels/"+c.channel+"/messages/"+c.message)},
			"bindings", object(t, "mqtt", bindings))
	}
	endpoint := []string{"endpoint", "certificate"}
	if c.down {
		send := operation("send", "Command to an endpoint", "Given to the session whose client id is the endpoint's id, while it is subscribed. "+
			"PUBACK means received, not done. It may come again: command_id and device_id name the operation.", endpoint, binding(t, 1))
		put(t, send, "reply", object(t, "channel", ref(t, "channels/results"), "messages", []*yaml.Node{ref(t, "channels/results/messages/result")}))
		put(t, operations, "send-"+name, send)
		put(t, operations, "receive-"+name, operation("receive", "Command from a service client", "A token with scope mqtt:admin may publish commands to the devices of its tenant, past the API.",
			[]string{"service"}, binding(t, 1)))
		put(t, operations, "copy-"+name, operation("send", "Copy for a service client", "For tokens with scope mqtt:admin.", []string{"service"}, binding(t, 1)))
		return
	}
	put(t, operations, "receive-"+name, operation("receive", c.title, c.summary+" PUBACK means durable: what has no PUBACK must be sent again. QoS 0 is taken without promise, QoS 2 refused.",
		endpoint, binding(t, 1)))
	put(t, operations, "copy-"+name, operation("send", "Copy for a service client", "Given out after it was stored in the log; by a filter such as meterline/v1/+/up/#. For tokens with scope mqtt.",
		[]string{"service"}, binding(t, 1)))
}

func binding(t *testing.T, qos int) *yaml.Node {
	return object(t, "qos", qos, "retain", false, "bindingVersion", "0.2.0")
}

func correlation(t *testing.T, pointer string) *yaml.Node {
	return object(t, "description", "the command; with device_id it names the operation", "location", "$message.payload#"+pointer)
}

func servers(t *testing.T) *yaml.Node {
	server := func(host, protocol, description string, schemes ...string) *yaml.Node {
		var security []*yaml.Node
		for _, scheme := range append([]string{"endpoint", "service"}, schemes...) {
			security = append(security, ref(t, "components/securitySchemes/"+scheme))
		}
		return object(t, "host", host, "protocol", protocol, "protocolVersion", "3.1.1, 5", "description", description, "security", security,
			"bindings", object(t, "mqtt", object(t,
				"keepAlive", 600, // the most; asked for more, or none, MQTT 5 clients are told so
				"sessionExpiryInterval", 7*24*3600, // the most
				"bindingVersion", "0.2.0")))
	}
	return object(t,
		"tcp", server("127.0.0.1:1883", "mqtt", "gateway --mqtt; in the clear, for networks of your own"),
		"tls", server("127.0.0.1:8883", "mqtts", "gateway --mqtt-tls; TLS 1.2 with forward secrecy, or 1.3. With --tls-client-ca also by certificate", "certificate"),
		"websocket", server("127.0.0.1:8083", "ws", "gateway --mqtt-ws; on any path, subprotocol mqtt, binary frames"),
		"websocket-tls", server("127.0.0.1:8084", "wss", "gateway --mqtt-wss; the same over TLS", "certificate"))
}

func securitySchemes(t *testing.T) *yaml.Node {
	return object(t,
		"endpoint", object(t, "type", "userPassword", "description", "An endpoint: the user name is the device id, the password its secret. The client id is the device id, "+
			"or that, a colon and a suffix: such a session publishes beside the first, and receives nothing."),
		"certificate", object(t, "type", "X509", "description", "An endpoint by a client certificate with its device id as subject alternative name (--tls-client-ca)."),
		"service", object(t, "type", "userPassword", "description", "A service client: the user name is service, the password an API token with scope mqtt or mqtt:admin. Any client id."))
}

// commandProperties are the user properties that clients of MQTT 5 get beside a command.
func commandProperties(t *testing.T) *yaml.Node {
	text := func() *yaml.Node { return object(t, "type", "string") }
	return object(t, "type", "object", "description", "User properties, for clients of MQTT 5; the payload has the same. Message Expiry is what is left until expires_at.",
		"properties", object(t, "command_id", text(), "kind", text(), "message_type", text(), "traceparent", text()))
}

// schema is a schema of the API, without what only its own file needs.
func schema(t *testing.T, name string) *yaml.Node {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "httpapi", "schemas", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	n := fromJSON(t, b)
	kept := n.Content[:0]
	for i := 0; i < len(n.Content); i += 2 {
		if key := n.Content[i].Value; key != "$schema" && key != "$id" {
			kept = append(kept, n.Content[i], n.Content[i+1])
		}
	}
	n.Content = kept
	return n
}

// fromJSON reads JSON, which is YAML, to be written as a block.
func fromJSON(t *testing.T, text []byte) *yaml.Node {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal(bytes.ReplaceAll(text, []byte("\t"), nil), &document); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	asBlocks(document.Content[0])
	return document.Content[0]
}

func asBlocks(n *yaml.Node) {
	if len(n.Content) > 0 {
		n.Style = 0
	}
	if n.Tag == "!!str" {
		n.Style = 0 // the encoder quotes where it has to be
	}
	for _, child := range n.Content {
		asBlocks(child)
	}
}

func ref(t *testing.T, pointer string) *yaml.Node { return object(t, "$ref", "#/"+pointer) }

// object is a mapping of pairs in their order.
func object(t *testing.T, pairs ...any) *yaml.Node {
	t.Helper()
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i < len(pairs); i += 2 {
		put(t, n, pairs[i].(string), pairs[i+1])
	}
	return n
}

func put(t *testing.T, into *yaml.Node, key string, value any) {
	t.Helper()
	var k yaml.Node
	k.SetString(key)
	v, ok := value.(*yaml.Node)
	if !ok {
		v = &yaml.Node{}
		if err := v.Encode(value); err != nil {
			t.Fatal(err)
		}
	}
	into.Content = append(into.Content, &k, v)
}
