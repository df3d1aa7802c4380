package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"meterline/command"
	"meterline/mqtt"
)

// TestDeadLetterCauses compares the causes in the code with the table of dead-letters.md: constants of meterread and command
// whose names begin with Code or Cause. Each has to say what happened and what to do.
func TestDeadLetterCauses(t *testing.T) {
	t.Parallel()
	causes := constantsLike(t, regexp.MustCompile(`^[A-Z]+(_[A-Z0-9]+)+$`), func(name string) bool {
		return strings.HasPrefix(name, "Code") || strings.HasPrefix(name, "Cause")
	}, "meterread", "command")
	delete(causes, "NO_VALID_READING") // of an operation, not of a letter
	said := map[string][]string{}
	for row, cells := range table(t, "dead-letters.md", "cause") {
		if len(cells) != 2 || len(cells[0]) < 10 || len(cells[1]) < 5 {
			t.Errorf("%s: %q does not say what happened and what to do", row, cells)
		}
		for cause := range strings.SplitSeq(row, "`, `") {
			said[cause] = cells
		}
	}
	compareNames(t, causes, said)
	listed := map[string][]string{}
	for _, cause := range command.Causes {
		listed[cause] = nil
	}
	compareNames(t, causes, listed)
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
