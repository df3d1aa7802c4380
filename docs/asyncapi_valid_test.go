package docs_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"meterline/command"
	"meterline/meterread"
	"meterline/mqtt"
)

// pageOfTopics reads asyncapi.yaml as JSON would be.
func pageOfTopics(t *testing.T) map[string]any {
	t.Helper()
	text, err := os.ReadFile("asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return document.(map[string]any)
}

// TestAsyncAPIIsValid checks the document by the official schema of AsyncAPI 3.0.0, and that its references lead somewhere,
// which the schema cannot see.
func TestAsyncAPIIsValid(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/asyncapi/3.0.0.json.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		t.Fatal(err)
	}
	official, err := jsonschema.UnmarshalJSON(unzipped)
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("http://meterline.invalid/asyncapi.json", official); err != nil {
		t.Fatal(err)
	}
	rules, err := compiler.Compile("http://meterline.invalid/asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	page := pageOfTopics(t)
	if err := rules.Validate(page); err != nil {
		t.Error(err)
	}
	refs := 0
	eachRef(page, func(to string) {
		refs++
		if _, err := lookUp(page, to); err != nil {
			t.Error(err)
		}
	})
	if refs == 0 {
		t.Error("no reference was found")
	}
	page["servers"].(map[string]any)["tcp"].(map[string]any)["protocol"] = 1
	if rules.Validate(page) == nil {
		t.Error("a server whose protocol is a number passes: does the schema say anything?")
	}
}

func eachRef(v any, see func(to string)) {
	switch v := v.(type) {
	case map[string]any:
		if to, ok := v["$ref"].(string); ok {
			see(to)
		}
		for _, child := range v {
			eachRef(child, see)
		}
	case []any:
		for _, child := range v {
			eachRef(child, see)
		}
	}
}

// lookUp follows a reference within the document.
func lookUp(page map[string]any, to string) (any, error) {
	var at any = page
	for _, step := range strings.Split(strings.TrimPrefix(to, "#/"), "/") {
		within, _ := at.(map[string]any)
		next, ok := within[step]
		if !ok {
			return nil, fmt.Errorf("%s leads nowhere: there is no %s", to, step)
		}
		at = next
	}
	return at, nil
}

// TestAsyncAPITopics checks that the document has each topic that the code can build: unicast commands, and a channel of
// uplinks for each constant. The topics of groups and of all are for later, as mqtt.md says.
func TestAsyncAPITopics(t *testing.T) {
	t.Parallel()
	code := map[string]bool{mqtt.CommandTopic("{endpoint}"): true}
	for _, file := range sources(t, "mqtt") {
		ast.Inspect(file.tree, func(n ast.Node) bool {
			if spec, ok := n.(*ast.ValueSpec); ok {
				if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Channel" {
					for _, value := range spec.Values {
						code[mqtt.UplinkTopic("{endpoint}", mqtt.Channel(literal(value)))] = true
					}
				}
			}
			return true
		})
	}
	page := map[string][]string{}
	for _, channel := range pageOfTopics(t)["channels"].(map[string]any) {
		page[channel.(map[string]any)["address"].(string)] = nil
	}
	compareNames(t, code, page)
}

// TestAsyncAPIExamples checks that the schemas take the examples, that the code that handles such messages finds nothing bad
// in them, and that it makes of an example of a command what the example says.
func TestAsyncAPIExamples(t *testing.T) {
	t.Parallel()
	page := pageOfTopics(t)
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("http://meterline.invalid/asyncapi.json", map[string]any(page)); err != nil {
		t.Fatal(err)
	}
	for _, c := range topics {
		rules, err := compiler.Compile("http://meterline.invalid/asyncapi.json#/components/schemas/" + c.schema)
		if err != nil {
			t.Fatal(err)
		}
		message, err := lookUp(page, "#/components/messages/"+c.message)
		if err != nil {
			t.Fatal(err)
		}
		examples, _ := message.(map[string]any)["examples"].([]any)
		if len(examples) == 0 {
			t.Errorf("%s has no example", c.message)
		}
		for _, e := range examples {
			name, payload := e.(map[string]any)["name"], e.(map[string]any)["payload"]
			if err := rules.Validate(payload); err != nil {
				t.Errorf("%s: %s: %v", c.message, name, err)
			}
			text, err := json.Marshal(payload)
			if err != nil {
				t.Fatal(err)
			}
			if c.down {
				err = sameCommand(text)
			} else {
				err = c.decode(text)
			}
			if err != nil {
				t.Errorf("%s: %s: %v", c.message, name, err)
			}
		}
	}
}

// TestWireBorders plays what lies on either side of a border: the schemas may not take what devices would find as a dead letter.
func TestWireBorders(t *testing.T) {
	t.Parallel()
	const id = "01a2315a-05ee-7f0d-86f2-6975893d636f"
	long := strings.Repeat("x", 65)
	for _, c := range []struct {
		message, payload string
		ok               bool
	}{
		{"readings", reading(`"0012.50"`), true}, {"readings", reading(`"-0"`), true}, {"readings", reading(`"` + strings.Repeat("9", 40) + `"`), true},
		{"readings", reading(`"-` + strings.Repeat("9", 39) + `.5"`), true}, {"readings", reading(`"` + strings.Repeat("9", 43) + `"`), false},
		{"readings", reading(`"+1"`), false}, {"readings", reading(`".5"`), false}, {"readings", reading(`"5."`), false}, {"readings", reading(`"1e3"`), false},
		{"readings", reading(`""`), false}, {"readings", reading(`"1 "`), false}, {"readings", reading(`"1","unit":"` + long + `"`), false},
		{"readings", reading(`"1","quality":"fine"`), false},
		{"event", `{"v":1,"type":"` + long[:64] + `"}`, true}, {"event", `{"v":1,"type":"` + long + `"}`, false}, {"event", `{"v":1,"type":"a b"}`, false},
		{"event", `{"v":1,"message_id":"` + long + long[:63] + `","type":"a"}`, true}, {"event", `{"v":1,"message_id":"` + long + long + `","type":"a"}`, false},
		{"event", `{"v":2,"type":"a"}`, false}, {"event", `{"type":"a"}`, false}, {"event", `{"v":1,"type":"a","data":1}`, false},
		{"ack", `{"v":1,"command_id":"` + id + `","device_ids":["` + long + `"],"status":"accepted"}`, false}, {"ack", `{"v":1,"command_id":"` + id + `","device_ids":[],"status":"accepted"}`, false},
		{"ack", `{"v":1,"command_id":"` + id + `","device_ids":["m"],"status":"begun"}`, false}, {"ack", `{"v":1,"command_id":"c","device_ids":["m"],"status":"progress"}`, false}, {"ack", `{"v":1,"command_id":"` + id + `","device_ids":["m"],"status":"progress"}`, true},
		{"result", `{"v":1,"results":[{"command_id":"` + id + `","device_id":"m","status":"ok"}]}`, true}, {"result", `{"v":1,"results":[{"command_id":"` + id + `","device_id":"m","status":"done"}]}`, false},
		{"result", `{"v":1,"results":[{"command_id":"` + id + `","device_id":"m","status":"ok","attempt":-1}]}`, false}, {"result", `{"v":1,"results":[{"command_id":"` + id + `","device_id":"m","status":"ok","final":1}]}`, false},
	} {
		of := topics[slices.IndexFunc(topics, func(c2 topic) bool { return c2.message == c.message })]
		text, err := os.ReadFile("../httpapi/schemas/" + of.schema + ".json")
		if err != nil {
			t.Fatal(err)
		}
		rules, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		compiler := jsonschema.NewCompiler()
		if err := compiler.AddResource("http://meterline.invalid/schema.json", rules); err != nil {
			t.Fatal(err)
		}
		v, err := jsonschema.UnmarshalJSON(strings.NewReader(c.payload))
		if err != nil {
			t.Fatalf("%v: %s", err, c.payload)
		}
		if err := compiler.MustCompile("http://meterline.invalid/schema.json").Validate(v); (err == nil) != c.ok {
			t.Errorf("the schema says %v of %s", err, c.payload)
		}
		if err := of.decode([]byte(c.payload)); (err == nil) != c.ok {
			t.Errorf("the code says %v of %s", err, c.payload)
		}
	}
}

func reading(value string) string {
	return `{"v":1,"readings":[{"device_id":"m","item":"1-0:1.8.0","read_at":"2026-01-31T12:00:00Z","value":` + value + `}]}`
}

// whole is the error of a message, or of a part of it.
func whole(err error, bad []meterread.Bad) error {
	if err == nil && len(bad) > 0 {
		err = fmt.Errorf("%+v", bad[0])
	}
	return err
}

// sameCommand reads a command and writes it as backends do: no field may be unknown to them, and none of the message's missing.
func sameCommand(text []byte) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	var m command.Message
	if err := decoder.Decode(&m); err != nil {
		return err
	}
	written, err := json.Marshal(m)
	if err != nil {
		return err
	}
	var was, is map[string]any
	if err := errors.Join(json.Unmarshal(text, &was), json.Unmarshal(written, &is)); err != nil {
		return err
	}
	if had, has := slices.Sorted(maps.Keys(was)), slices.Sorted(maps.Keys(is)); !slices.Equal(had, has) {
		return fmt.Errorf("the example has the fields %q, a backend sends %q", had, has)
	}
	return nil
}
