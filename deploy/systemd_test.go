package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"meterline/testkit"
)

// exposure is what systemd-analyze may find a unit exposed to at most, in tenths: of 10.0, which is no sandbox at all.
const exposure = "20"

// TestUnits has systemd read the units, and judge their sandboxes, without running them.
func TestUnits(t *testing.T) {
	t.Parallel()
	analyze := testkit.Program(t, "systemd-analyze", "systemd")
	for _, program := range []string{"gateway", "backend"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			unit := installed(t, program)
			for _, args := range [][]string{
				{"verify", unit},
				{"security", "--offline=true", "--no-pager", "--threshold=" + exposure, unit},
			} {
				out, err := exec.CommandContext(t.Context(), analyze, args...).CombinedOutput()
				if err != nil || args[0] == "verify" && len(out) > 0 {
					t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
				}
			}
		})
	}
}

// installed is a copy of a unit whose program exists: systemd looks for it.
func installed(t *testing.T, program string) string {
	t.Helper()
	text := read(t, filepath.Join("systemd", "meterline-"+program+".service"))
	from := "ExecStart=/usr/local/bin/meterline-" + program
	if !strings.Contains(text, from) {
		t.Fatalf("there is no %q", from)
	}
	path := filepath.Join(t.TempDir(), "meterline-"+program+".service")
	if err := os.WriteFile(path, []byte(strings.Replace(text, from, "ExecStart=/bin/true", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestUnitsFit holds the numbers and names in the units to those of the programs.
func TestUnitsFit(t *testing.T) {
	t.Parallel()
	pages := read(t, "../docs/configuration.md")
	for program, heading := range map[string]string{"gateway": "\n## gateway\n", "backend": "\n## backend serve\n"} {
		unit := read(t, filepath.Join("systemd", "meterline-"+program+".service"))
		grace := number(t, read(t, "../cmd/"+program+"/serve.go"), `const grace = (\d+) \* time\.Second`)
		if stop := number(t, unit, `(?m)^TimeoutStopSec=(\d+)$`); stop <= grace {
			t.Errorf("%s: killed after %d s, and drains for up to %d s", program, stop, grace)
		}
		_, section, found := strings.Cut(pages, heading)
		if !found {
			t.Fatalf("configuration.md has no section %q", heading)
		}
		section, _, _ = strings.Cut(section, "\n## ")
		set := regexp.MustCompile(`(?m)^Environment=METERLINE_(\w+?)_FILE=%d/(\S+)$`).FindAllStringSubmatch(unit, -1)
		if len(set) < 2 {
			t.Fatalf("%s: found only %d settings: is this test blind?", program, len(set))
		}
		for _, s := range set {
			flag := "| `--" + strings.ToLower(strings.ReplaceAll(s[1], "_", "-")) + "` |"
			if !strings.Contains(section, flag) {
				t.Errorf("%s: METERLINE_%s_FILE: there is no such flag", program, s[1])
			}
			if !strings.Contains(unit, "\nLoadCredential="+s[2]+":") {
				t.Errorf("%s: the credential %s is not loaded", program, s[2])
			}
		}
	}
	const devices, unadmitted = 100_000, 16384
	if files := number(t, read(t, "systemd/meterline-gateway.service"), `(?m)^LimitNOFILE=(\d+)$`); files < devices+unadmitted {
		t.Errorf("the gateway has %d file descriptors for %d connections", files, devices+unadmitted)
	}
}

// number is the one that the pattern finds.
func number(t *testing.T, text, pattern string) int {
	t.Helper()
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("nothing matches %s", pattern)
	}
	n, err := strconv.Atoi(m[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
