package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"meterline/mqtt"
)

// TestDeadLetterCauses compares the causes in the code with the table of mqtt.md: constants of meterread and command whose
// names begin with Code or Cause.
func TestDeadLetterCauses(t *testing.T) {
	t.Parallel()
	causes := constantsLike(t, regexp.MustCompile(`^[A-Z]+(_[A-Z0-9]+)+$`), func(name string) bool {
		return strings.HasPrefix(name, "Code") || strings.HasPrefix(name, "Cause")
	}, "meterread", "command")
	delete(causes, "NO_VALID_READING") // of an operation, not of a letter
	said := map[string][]string{}
	for row := range table(t, "mqtt.md", "cause") {
		for cause := range strings.SplitSeq(row, "`, `") {
			said[cause] = nil
		}
	}
	compareNames(t, causes, said)
}

// TestTopics checks that the page names the topics as the code does.
func TestTopics(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("mqtt.md")
	if err != nil {
		t.Fatal(err)
	}
	topics := []string{mqtt.CommandTopic("{endpoint}"), mqtt.GroupCommandTopic("{group}"), mqtt.AllCommands}
	for _, c := range []mqtt.Channel{mqtt.Ack, mqtt.Result, mqtt.Readings, mqtt.Event} {
		topics = append(topics, mqtt.UplinkTopic("{endpoint}", c))
	}
	for _, topic := range topics {
		if !strings.Contains(string(text), "`"+topic+"`") {
			t.Errorf("the page lacks %s", topic)
		}
	}
}
