package deploy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestCompose holds the names in compose.yaml and the Dockerfile to what there is. Nothing is built or run: that takes Docker.
func TestCompose(t *testing.T) {
	t.Parallel()
	type build struct{ Context, Dockerfile, Target string }
	var compose struct {
		Services map[string]struct {
			Image       string
			Build       *build
			Command     []string
			Environment map[string]string
			Volumes     []string
			DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		}
		Volumes map[string]any
	}
	if err := yaml.Unmarshal([]byte(read(t, "compose.yaml")), &compose); err != nil {
		t.Fatal(err)
	}
	if len(compose.Services) < 5 {
		t.Fatalf("%d services: is this test blind?", len(compose.Services))
	}
	docker := read(t, "Dockerfile")
	pages := read(t, "../docs/configuration.md")
	for name, s := range compose.Services {
		for setting := range s.Environment {
			flag, ours := strings.CutPrefix(setting, "METERLINE_")
			if ours && !strings.Contains(pages, "| `--"+strings.ToLower(strings.ReplaceAll(flag, "_", "-"))+"` |") {
				t.Errorf("%s: %s: there is no such flag", name, setting)
			}
		}
		for other := range s.DependsOn {
			if _, there := compose.Services[other]; !there {
				t.Errorf("%s depends on %s, which is not there", name, other)
			}
		}
		for _, v := range s.Volumes {
			source, _, _ := strings.Cut(v, ":")
			if _, named := compose.Volumes[source]; named {
				continue
			}
			if _, err := os.Stat(source); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		switch {
		case (s.Build == nil) == (s.Image == ""):
			t.Errorf("%s is neither built nor named, or both", name)
		case s.Build != nil && !strings.Contains(docker, " AS "+s.Build.Target+"\n"):
			t.Errorf("%s: the Dockerfile has no target %s", name, s.Build.Target)
		}
		if s.Build != nil {
			if _, err := os.Stat(filepath.Join(s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if s.Build != nil && len(s.Command) > 0 && !strings.Contains(pages, "| `"+s.Build.Target+" "+s.Command[0]+"` |") {
			t.Errorf("%s: %s has no command %s", name, s.Build.Target, s.Command[0])
		}
	}
	programs := regexp.MustCompile(`\./cmd/(\w+)`).FindAllStringSubmatch(docker, -1)
	if len(programs) != 2 {
		t.Fatalf("the Dockerfile builds %q", programs)
	}
	for _, p := range programs {
		if _, err := os.Stat("../cmd/" + p[1] + "/main.go"); err != nil {
			t.Error(err)
		}
		if !strings.Contains(docker, "ENTRYPOINT [\"/"+p[1]+"\"]\n") || !strings.Contains(docker, " /out/"+p[1]+" /"+p[1]+"\n") {
			t.Errorf("the Dockerfile does not start %s", p[1])
		}
	}
}
