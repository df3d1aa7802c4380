package console

import (
	"bytes"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDistIsWhatTheSourcesGive builds the page anew and compares: what is committed is what is in src and npm.
func TestDistIsWhatTheSourcesGive(t *testing.T) {
	t.Parallel()
	fresh := filepath.Join(t.TempDir(), "dist")
	build := exec.Command("go", "run", "./build", "-from", ".", "-to", fresh)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	want, got := filesOf(t, os.DirFS(fresh)), filesOf(t, os.DirFS("dist"))
	for name, content := range want {
		if !bytes.Equal(got[name], content) {
			t.Errorf("dist/%s is not what the sources give: run make console", name)
		}
	}
	for name := range got {
		if want[name] == nil {
			t.Errorf("dist/%s is left from another build: run make console", name)
		}
	}
}

func filesOf(t *testing.T, dir fs.FS) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	err := fs.WalkDir(dir, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files[name], err = fs.ReadFile(dir, name)
		return err
	})
	if err != nil || len(files) == 0 {
		t.Fatalf("read the page: %d files, %v", len(files), err)
	}
	return files
}

func ask(method, path string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, http.NoBody)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, r)
	return w
}

func TestPageIsServed(t *testing.T) {
	t.Parallel()
	page := ask("GET", "/")
	if page.Code != http.StatusOK || page.Header().Get("Cache-Control") != "no-cache" {
		t.Fatalf("/: %d, %v", page.Code, page.Header())
	}
	if again := ask("GET", "/", "If-None-Match", page.Header().Get("ETag")); again.Code != http.StatusNotModified {
		t.Errorf("/ that is known already: %d", again.Code)
	}
	assets := regexp.MustCompile(`"(/assets/[^"]+)"`).FindAllStringSubmatch(page.Body.String(), -1)
	if len(assets) != 3 {
		t.Fatalf("the page uses %q, want script, styles and icon", assets)
	}
	for _, a := range assets {
		got := ask("GET", a[1])
		if got.Code != http.StatusOK || !strings.Contains(got.Header().Get("Cache-Control"), "immutable") || got.Header().Get("Content-Type") == "" {
			t.Errorf("%s: %d, %v", a[1], got.Code, got.Header())
		}
		if whole := got.Body.Len(); whole == 0 || ask("HEAD", a[1]).Body.Len() != 0 {
			t.Errorf("%s has %d bytes, and HEAD some", a[1], whole)
		}
	}
}

// TestPolicy looks at what keeps other people's text and other sites out, on every answer.
func TestPolicy(t *testing.T) {
	t.Parallel()
	for _, at := range []struct {
		method, path string
		status       int
	}{{"GET", "/", 200}, {"GET", "/assets/none.js", 404}, {"GET", "/assets/../console.go", 404}, {"POST", "/", 405}, {"DELETE", "/assets/x", 405}} {
		got := ask(at.method, at.path)
		if got.Code != at.status {
			t.Errorf("%s %s: %d, want %d", at.method, at.path, got.Code, at.status)
		}
		csp := got.Header().Get("Content-Security-Policy")
		for _, must := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(csp, must) {
				t.Errorf("%s %s: the policy lacks %q", at.method, at.path, must)
			}
		}
		if strings.Contains(csp, "unsafe") || got.Header().Get("X-Content-Type-Options") != "nosniff" || got.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s %s: %v", at.method, at.path, got.Header())
		}
	}
}

func TestOwns(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]bool{"/": true, "/assets/a.js": true, "/assets": true, "/assetsx": false, "/v1/devices": false, "/livez": false, "": false} {
		if Owns(path) != want {
			t.Errorf("%q: %t", path, !want)
		}
	}
}

// TestSourcesMakeNoMarkup holds what no page may do: text of devices and people becomes text nodes alone.
func TestSourcesMakeNoMarkup(t *testing.T) {
	t.Parallel()
	forbidden := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://(?:[^w]|w[^w])`)
	seen := 0
	err := filepath.WalkDir("src", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasPrefix(filepath.Ext(file), ".ts") {
			return err
		}
		text, err := os.ReadFile(file)
		if found := forbidden.Find(text); found != nil {
			t.Errorf("%s has %q", file, found)
		}
		seen++
		return err
	})
	if err != nil || seen < 10 {
		t.Fatalf("looked at %d files: %v", seen, err)
	}
}
