package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"edged/internal/auth"
	"edged/internal/signaling"
)

// maxConfig is the most bytes of a configuration document, as over MQTT.
const maxConfig = 96 << 10

// writeJSON answers with a document that nobody may keep.
func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		signaling.Problem(w, http.StatusInternalServerError, "the answer cannot be written as JSON", nil)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // the client may have gone
}

// permit checks the request's token; where it does not suffice the request
// has been answered.
func (s *Server) permit(w http.ResponseWriter, r *http.Request, right auth.Right, camera string) (auth.Grant, bool) {
	return s.deps.Signaling.Authorize(w, r, right, camera)
}

// offers checks the request's token, and that this box has what the route
// serves; where not, the request has been answered.
func (s *Server) offers(w http.ResponseWriter, r *http.Request, right auth.Right, present bool) bool {
	if _, ok := s.permit(w, r, right, ""); !ok {
		return false
	}
	if !present {
		notFound(w, r)
	}
	return present
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) { s.health(w, true) }

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	s.health(w, s.deps.Ready == nil || s.deps.Ready())
}

// health answers one line a subsystem.
func (s *Server) health(w http.ResponseWriter, ready bool) {
	var b strings.Builder
	status := http.StatusOK
	for _, h := range s.deps.Health() {
		word := "ok"
		if !h.OK {
			word, status = "bad", http.StatusServiceUnavailable
		}
		fmt.Fprintln(&b, strings.TrimSpace(h.Name+": "+word+" "+h.Detail))
	}
	if !ready {
		status = http.StatusServiceUnavailable
		b.WriteString("starting\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, b.String()) // the client may have gone
}

// metrics is open to the box itself: a collector on the same machine. What a
// proxy on the same machine passes on is not from the box itself.
func (s *Server) metrics(w http.ResponseWriter, r *http.Request) {
	if s.deps.Metrics == nil {
		notFound(w, r)
		return
	}
	local := signaling.RemoteAddr(r).IsLoopback() && r.Header.Get("X-Forwarded-For") == "" && r.Header.Get("Forwarded") == ""
	if !local {
		if _, ok := s.permit(w, r, auth.Metrics, ""); !ok {
			return
		}
	}
	s.deps.Metrics.ServeHTTP(w, r)
}

func (s *Server) box(w http.ResponseWriter, r *http.Request) {
	if _, ok := s.permit(w, r, auth.View, ""); !ok {
		return
	}
	b := s.deps.Box()
	b.Uptime = time.Since(b.Started).Seconds()
	b.Ports.HTTP = s.addr.Port()
	b.Health = s.deps.Health()
	writeJSON(w, b)
}

func (s *Server) cameras(w http.ResponseWriter, r *http.Request) {
	if g, ok := s.permit(w, r, auth.View, ""); ok {
		writeJSON(w, map[string]any{"cameras": s.deps.Signaling.List(g)})
	}
}

func (s *Server) camera(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	g, ok := s.permit(w, r, auth.View, id)
	if !ok {
		return
	}
	if c, ok := s.findCamera(g, id); ok {
		writeJSON(w, c)
		return
	}
	unknownCamera(w, id)
}

// findCamera gives a camera that the grant permits to view.
func (s *Server) findCamera(g auth.Grant, id string) (signaling.Camera, bool) {
	for _, c := range s.deps.Signaling.List(g) {
		if c.ID == id {
			return c, true
		}
	}
	return signaling.Camera{}, false
}

func unknownCamera(w http.ResponseWriter, id string) {
	signaling.Problem(w, http.StatusNotFound, fmt.Sprintf("no camera %.40q", id), map[string]any{"code": "unknown_camera"})
}

func (s *Server) turn(w http.ResponseWriter, r *http.Request) {
	if g, ok := s.permit(w, r, auth.View, ""); ok {
		writeJSON(w, map[string]any{"ice_servers": s.deps.Signaling.ICEServers(g.Subject, signaling.Host(r))})
	}
}

func (s *Server) getConfig(w http.ResponseWriter, r *http.Request) {
	if !s.offers(w, r, auth.Admin, s.deps.Config != nil) {
		return
	}
	doc := s.deps.Config.Document()
	w.Header().Set("Content-Type", "application/yaml")
	if json.Valid(doc) {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(doc) // the client may have gone
}

// documentTypes are what a configuration may come as.
var documentTypes = map[string]bool{
	"application/json": true, "application/yaml": true, "application/x-yaml": true, "text/yaml": true,
	"application/vnd.edged.config.v1+json": true,
}

func (s *Server) putConfig(w http.ResponseWriter, r *http.Request) {
	if !s.offers(w, r, auth.Admin, s.deps.Config != nil) {
		return
	}
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || !documentTypes[typ] {
		signaling.Problem(w, http.StatusUnsupportedMediaType, "want Content-Type: application/json or application/yaml", nil)
		return
	}
	doc, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxConfig))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		signaling.Problem(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the document is longer than %d bytes", maxConfig), nil)
		return
	case err != nil:
		signaling.Problem(w, http.StatusBadRequest, "the body ended early", nil)
		return
	}
	restart, err := s.deps.Config.Put(r.Context(), doc)
	var faulty Faulty
	switch {
	case errors.As(err, &faulty):
		signaling.Problem(w, http.StatusUnprocessableEntity, "the document has faults", map[string]any{"errors": faulty.Faults()})
	case err != nil:
		signaling.Problem(w, http.StatusInternalServerError, err.Error(), nil) // an admin's to read
	default:
		writeJSON(w, map[string]any{"applied": true, "restart": append([]string{}, restart...)})
	}
}

func (s *Server) stats(w http.ResponseWriter, r *http.Request) {
	if !s.offers(w, r, auth.View, s.deps.Stats != nil) {
		return
	}
	since, err := parseSince(r.URL.Query().Get("since"))
	if err != nil {
		signaling.Problem(w, http.StatusBadRequest, "since: "+err.Error(), nil)
		return
	}
	writeJSON(w, s.deps.Stats(since))
}

// parseSince takes RFC 3339, or Unix seconds or milliseconds.
func parseSince(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		if n >= 1e11 { // seconds would be the year 5138
			n /= 1e3
		}
		if n < 0 || n > 1e11 || n != n {
			return time.Time{}, errors.New("out of range")
		}
		return time.UnixMicro(int64(n * 1e6)), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, errors.New("want a time of RFC 3339 or Unix seconds")
	}
	return t, nil
}

func (s *Server) topology(w http.ResponseWriter, r *http.Request) {
	if !s.offers(w, r, auth.Admin, s.deps.Topology != nil) {
		return
	}
	writeJSON(w, s.deps.Topology())
}
