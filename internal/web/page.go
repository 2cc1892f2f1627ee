package web

import (
	"crypto/sha256"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
)

// asset is one static file.
type asset struct {
	body []byte
	typ  string
	etag string
}

// types of the page's files, independent of what the machine has in /etc.
var types = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	".json": "application/json",
	".png":  "image/png",
	".ico":  "image/x-icon",
}

// readPage reads every file, by its URL path.
func readPage(files fs.FS) (map[string]asset, error) {
	page := map[string]asset{}
	err := fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		typ := types[path.Ext(name)]
		if typ == "" {
			typ = mime.TypeByExtension(path.Ext(name))
		}
		sum := sha256.Sum256(body)
		page["/"+name] = asset{body, typ, `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		return nil, err
	}
	index, ok := page["/index.html"]
	if !ok {
		return nil, fs.ErrNotExist
	}
	page["/"] = index
	return page, nil
}

// policy lets the page have what comes from the box, and nothing else:
// pictures from memory, and the WebSocket.
const policy = "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; " +
	"connect-src 'self' ws: wss:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"

// static serves a file that the page has. A token in the query is for the page's script: it
// is not looked at here, and no Referer carries it away.
func (s *Server) static(w http.ResponseWriter, r *http.Request) {
	a := s.page[r.URL.Path]
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Content-Type", a.typ)
	h.Set("Cache-Control", "no-cache") // ask again each time; unchanged is 304
	h.Set("ETag", a.etag)
	if strings.Contains(r.Header.Get("If-None-Match"), a.etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	_, _ = w.Write(a.body) // the client may have gone
}
