package meterline_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is the path that all our imports start with.
const module = "meterline"

var domain = []string{"meterread", "fleet", "command"}

// allowed says, for every package, which of ours it may import: imports point one way, from the wiring to the edges to
// the domain. A package that is not in the table fails the test: put it in, with as few imports as it can live with.
// Tests are free in what they import.
var allowed = map[string][]string{
	"fault": {}, // may be imported by all: nothing of it is left in a program that is built without its tag

	// the domain
	"meterread": {},
	"fleet":     {"meterread"},
	"command":   {"meterread", "fleet"},

	// the edges: the domain, never each other
	"mqtt":        domain,
	"mqtt/broker": append([]string{"mqtt", "mqtt/door", "mqtt/frame", "mqtt/plain"}, domain...),
	"mqtt/door":   {}, // connections, up to where MQTT begins
	"mqtt/frame":  {}, // packets, to the letter of the protocol
	"mqtt/plain":  {}, // plain MQTT knows nothing of meters
	"uplink":      domain,
	"state":       domain,
	"store":       domain,
	"httpapi":     domain,
	"console":     {},

	// builds what the console embeds
	"console/build": {},

	// beside the system: meets it on the wire only
	"simulator": {"mqtt", "meterread", "command"},

	// the wiring
	"cmd/backend":   everything,
	"cmd/gateway":   everything,
	"cmd/simulator": everything,
	"cmd/launch":    parts, // what the programs share

	// for tests only
	"fleet/fleettest":       {"fleet", "meterread"},
	"command/commandtest":   domain,
	"cmd/launch/launchtest": {"cmd/launch"},
	"mqtt/wiretest":         {},
	"testkit":               {},
	"testkit/proxy":         {},
	"testkit/packet":        {},
	"testkit/machine":       {},
	"testkit/profile":       {},
	"testkit/swarm":         {"testkit/packet", "mqtt", "meterread"},
	"testkit/cluster":       {"testkit", "testkit/proxy"},
	"testkit/faults":        {"testkit", "testkit/proxy", "testkit/cluster", "simulator", "mqtt", "command", "meterread"},
	"testkit/cmd/cluster":   {"testkit", "testkit/cluster"},
	"testkit/cmd/faults":    {"testkit/cluster", "testkit/faults", "testkit/history", "testkit/load", "testkit/checker"},
	"testkit/cmd/outage":    {"testkit", "testkit/cluster", "testkit/history", "testkit/load", "testkit/checker"},
	"testkit/history":       {},
	"testkit/load":          {"testkit/history", "simulator", "mqtt", "command", "meterread"},
	"testkit/checker":       {"testkit", "testkit/history", "command", "meterread"},
	"testkit/cmd/servers":   {"testkit"},
	"testkit/cmd/report":    {},
	"testkit/cmd/fuzz":      {},
	"testkit/cmd/drain":     {"testkit", "testkit/profile", "simulator", "uplink", "store", "command", "fleet", "meterread"},
	"testkit/cmd/bench":     {"testkit", "testkit/cluster", "testkit/machine", "testkit/packet", "testkit/profile", "testkit/swarm", "simulator", "command", "meterread"},
	"testkit/cmd/edge":      {"testkit", "testkit/machine", "testkit/packet", "simulator", "mqtt", "meterread"},
	"testkit/cmd/wire":      {"mqtt/wiretest"},
}

// parts is every package but the wiring and what is for tests only.
var parts = append([]string{"mqtt", "mqtt/broker", "mqtt/door", "mqtt/frame", "mqtt/plain", "uplink", "state", "store", "httpapi", "console", "simulator"}, domain...)

var everything = append([]string{"cmd/launch"}, parts...)

// technology says where a library may be used. What is not listed may be used anywhere but in the domain.
var technology = map[string][]string{
	"github.com/mochi-mqtt/server/v2":         {"mqtt/broker", "testkit/cmd/edge"},                              // there as the broker beside ours
	"github.com/mochi-mqtt/server/v2/packets": {"mqtt", "mqtt/broker", "mqtt/frame", "mqtt/plain", "simulator"}, // the codec, also for our own client
	"github.com/eclipse/paho.mqtt.golang":     {"mqtt", "testkit/faults"},                                       // there as a device
	"github.com/redis/go-redis/v9":            {"state", "uplink", "cmd/launch", "cmd/backend", "cmd/gateway", "testkit", "testkit/cmd/drain", "testkit/checker"},
	"github.com/alicebob/miniredis/v2":        {"state"},
	"github.com/jmoiron/sqlx":                 {"store"},
	"github.com/lib/pq":                       {"store", "testkit", "testkit/checker"},
	"modernc.org/sqlite":                      {"store"},
	"github.com/evanw/esbuild/pkg/api":        {"console/build"},
	"github.com/pressly/goose/v3":             {"store"},
	"github.com/danielgtaylor/huma/v2":        {"httpapi"},
	"github.com/alecthomas/kong":              {"cmd/launch", "cmd/launch/launchtest", "cmd/backend", "cmd/gateway", "cmd/simulator"},
}

// inDomain are the libraries that the domain may use beside the standard one.
var inDomain = []string{
	"github.com/google/uuid",
	"golang.org/x/crypto/bcrypt", // passwords, as the standard library hashes all else
	"github.com/prometheus/client_golang/prometheus",
	"golang.org/x/sync/errgroup",
}

// A pkg is one directory of Go files, whatever their build tags.
type pkg struct {
	dir     string // relative to the root, with slashes
	name    string
	doc     bool
	imports map[string]string // by files that are not tests; import path → one file that has it
}

func TestImportsPointOneWay(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		rule, known := allowed[p.dir]
		if !known {
			t.Errorf("package %s is not in the table of allowed imports", p.dir)
		}
		for imported, file := range p.imports {
			ours, is := strings.CutPrefix(imported, module+"/")
			if is && known && ours != "fault" && !slices.Contains(rule, ours) {
				t.Errorf("%s: %s may not import %s", file, p.dir, ours)
			}
		}
	}
}

// TestRulesHaveNoHoles checks the table itself: whatever is edited there, the domain stays free of the edges and no
// program imports what is for tests only.
func TestRulesHaveNoHoles(t *testing.T) {
	t.Parallel()
	for dir, imports := range allowed {
		for _, imported := range imports {
			if _, known := allowed[imported]; !known {
				t.Errorf("%s may import %s, which is not in the table", dir, imported)
			}
			if slices.Contains(domain, dir) && !slices.Contains(domain, imported) {
				t.Errorf("%s is of the domain and may import %s, which is not", dir, imported)
			}
			if forTests(imported) && !forTests(dir) {
				t.Errorf("%s may import %s, which is for tests only", dir, imported)
			}
			if slices.Contains(allowed[imported], dir) {
				t.Errorf("%s and %s may import each other", dir, imported)
			}
		}
	}
}

// forTests says whether a package is there for tests only: testkit, and fakes in packages named for what they fake.
func forTests(dir string) bool {
	return dir == "testkit" || strings.HasPrefix(dir, "testkit/") || strings.HasSuffix(dir, "test")
}

func TestTechnologyStaysAtTheEdge(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for imported, file := range p.imports {
			if !strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				continue // ours, or the standard library
			}
			if slices.Contains(domain, p.dir) && !slices.Contains(inDomain, imported) {
				t.Errorf("%s: %s is of the domain and may not import %s", file, p.dir, imported)
			}
			if where, ruled := ruleFor(imported); ruled && !slices.Contains(where, p.dir) {
				t.Errorf("%s: %s may be used in %s only", file, imported, strings.Join(where, ", "))
			}
		}
	}
}

// ruleFor finds the rule of the longest path that imported is in.
func ruleFor(imported string) (where []string, ruled bool) {
	for p := imported; p != "."; p = path.Dir(p) {
		if where, ruled = technology[p]; ruled {
			return where, true
		}
	}
	return nil, false
}

func TestPackagesAreDocumented(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		if !p.doc {
			t.Errorf("package %s has no doc comment", p.dir)
		}
	}
}

func TestPackagesAreNamedForWhatTheyKnow(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, name := range append(strings.Split(p.dir, "/"), p.name) {
			switch name {
			case "util", "utils", "common", "models", "helpers", "misc", "internal":
				t.Errorf("package %s: %s says nothing of what is in it", p.dir, name)
			}
		}
	}
}

// packages reads every directory of the module that has Go files other than tests. It parses instead of building, so
// that files behind build tags count and a package that does not compile can still be judged.
func packages(t *testing.T) []*pkg {
	t.Helper()
	found := map[string]*pkg{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); file != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		dir := filepath.ToSlash(filepath.Dir(file))
		if found[dir] == nil {
			found[dir] = &pkg{dir: dir, imports: map[string]string{}}
		}
		return found[dir].add(file)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) < len(domain) {
		t.Fatalf("found %d packages: not at the root of the module?", len(found))
	}
	var all []*pkg
	for _, p := range found {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *pkg) int { return strings.Compare(a.dir, b.dir) })
	return all
}

func (p *pkg) add(file string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return err
	}
	p.name = parsed.Name.Name
	p.doc = p.doc || documented(parsed)
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		p.imports[imported] = file
	}
	return nil
}

// documented says whether the file has a package comment that says something: build tags and directives do not.
func documented(f *ast.File) bool {
	return f.Doc != nil && strings.TrimSpace(f.Doc.Text()) != ""
}
