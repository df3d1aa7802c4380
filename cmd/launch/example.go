package launch

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// Example writes what a command of the program can be told, as an environment file such as systemd's EnvironmentFile and a shell
// take: each variable with what it is, commented out at its default. cli is what Parse gets; no command means the program itself.
func Example(w io.Writer, cli any, name, command string) error {
	parser, err := kong.New(cli, kong.Name(name), kong.DefaultEnvars(envPrefix))
	if err != nil {
		return err
	}
	node := parser.Model.Node
	for _, child := range node.Children {
		if child.Name == command {
			node = child
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# What %s can be told, at its defaults: take the # away from what you change. A secret stands better in a file of its\n", node.FullPath())
	fmt.Fprintf(&b, "# own: %s_DATABASE_URL_FILE and the like name it.\n", envPrefix)
	for _, f := range node.Flags {
		if f.Hidden || len(f.Envs) == 0 || f.Name == "help" {
			continue
		}
		b.WriteString("\n")
		for _, line := range wrap(strings.TrimSpace(f.Help), 110) {
			b.WriteString("# " + line + "\n")
		}
		fmt.Fprintf(&b, "#%s=%s\n", f.Envs[0], quoted(f.Default))
	}
	_, err = io.WriteString(w, b.String())
	return err
}

// quoted is a value as it stands in an environment file.
func quoted(value string) string {
	if strings.ContainsAny(value, " \t#;\"'\\$&|<>()") {
		return strconv.Quote(value)
	}
	return value
}

// wrap breaks text into lines of so many bytes, at spaces.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}
