// Package console is the web page of the operations centre: files that were built beforehand (console/dist, by
// `make console`) and are served from memory. The page speaks to the public API only.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"time"
)

//go:embed dist
var dist embed.FS

// policy lets the page run what it brought along and talk to where it came from, and nothing else. With trusted types no text
// that came from a device can become markup, whatever a line of the page's code does.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// types are fixed here: what the machine says of endings does not matter.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml",
}

// file is one file of the page, as it is sent.
type file struct {
	body        []byte
	contentType string
	cache       string
	etag        string
}

// Handler serves the page: / and what lies below /assets/, by GET and HEAD. Names of assets hold a hash of what is in them, so
// browsers keep them for good, and ask for / each time.
func Handler() http.Handler { return handlerOf(dist) }

// Owns says whether a path is the page's; all others are the API's.
func Owns(urlPath string) bool {
	return urlPath == "/" || urlPath == "/assets" || len(urlPath) > len("/assets/") && urlPath[:len("/assets/")] == "/assets/"
}

func handlerOf(from fs.FS) http.Handler {
	files := map[string]*file{}
	err := fs.WalkDir(from, "dist", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(from, name)
		if err != nil {
			return err
		}
		urlPath := name[len("dist"):]
		f := &file{body: body, contentType: types[path.Ext(name)], cache: "public, max-age=31536000, immutable"}
		if urlPath == "/index.html" {
			sum := sha256.Sum256(body)
			urlPath, f.cache, f.etag = "/", "no-cache", `"`+hex.EncodeToString(sum[:16])+`"`
		}
		files[urlPath] = f
		return nil
	})
	if err != nil || files["/"] == nil {
		panic(fmt.Sprintf("console: the page is not whole: %v", err)) // it is part of the program
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, files[r.URL.Path]) })
}

func serve(w http.ResponseWriter, r *http.Request, f *file) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "the page is only read", http.StatusMethodNotAllowed)
	case f == nil:
		h.Set("Cache-Control", "no-store")
		http.Error(w, "the page has no such file", http.StatusNotFound)
	default:
		h.Set("Content-Type", f.contentType)
		h.Set("Cache-Control", f.cache)
		if f.etag != "" {
			h.Set("ETag", f.etag)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(f.body))
	}
}
