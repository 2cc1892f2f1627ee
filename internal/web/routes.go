package web

import (
	"net/http"
	"slices"
	"strings"

	"edged/internal/signaling"
)

// route is what one pattern answers, by method.
type route map[string]http.HandlerFunc

// routes is the whole URL space. What is not in it is 404.
func (s *Server) routes() *http.ServeMux {
	sig := s.deps.Signaling
	table := map[string]route{
		"/healthz": {"GET": s.healthz},
		"/readyz":  {"GET": s.readyz},
		"/metrics": {"GET": s.metrics},
		"/rpc":     {"GET": func(w http.ResponseWriter, r *http.Request) { sig.RPC(w, r, s.cfg.Origins) }},

		"/whep/{camera}": {"POST": func(w http.ResponseWriter, r *http.Request) {
			sig.WHEP(w, r, r.PathValue("camera"))
		}},
		"/whep/{camera}/{session}": {
			"PATCH": func(w http.ResponseWriter, r *http.Request) {
				sig.WHEPPatch(w, r, r.PathValue("camera"), r.PathValue("session"))
			},
			"DELETE": func(w http.ResponseWriter, r *http.Request) {
				sig.WHEPDelete(w, r, r.PathValue("camera"), r.PathValue("session"))
			},
		},

		"/api/v1/cameras/{id}/snapshot.jpg": {"GET": s.snapshot},
		"/whip/{camera}": {"POST": func(w http.ResponseWriter, r *http.Request) {
			sig.WHIP(w, r, r.PathValue("camera"))
		}},
		"/whip/{camera}/{session}": {
			"PATCH": func(w http.ResponseWriter, r *http.Request) {
				sig.WHIPPatch(w, r, r.PathValue("camera"), r.PathValue("session"))
			},
			"DELETE": func(w http.ResponseWriter, r *http.Request) {
				sig.WHIPDelete(w, r, r.PathValue("camera"), r.PathValue("session"))
			},
		},

		"/api/v1/box":          {"GET": s.box},
		"/api/v1/cameras":      {"GET": s.cameras},
		"/api/v1/cameras/{id}": {"GET": s.camera},
		"/api/v1/signal":       {"POST": sig.Signal},
		"/api/v1/turn":         {"GET": s.turn},
		"/api/v1/config":       {"GET": s.getConfig, "PUT": s.putConfig},
		"/api/v1/stats":        {"GET": s.stats},
		"/api/v1/topology":     {"GET": s.topology},
	}
	mux := http.NewServeMux()
	for pattern, methods := range table {
		mux.HandleFunc(pattern, s.dispatch(methods))
	}
	page := s.dispatch(route{"GET": s.static})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if _, ok := s.page[r.URL.Path]; !ok {
			notFound(w, r) // whatever the method
			return
		}
		page(w, r)
	})
	return mux
}

// dispatch chooses by method: HEAD is GET without a body, OPTIONS says what
// there is, all else is 405 with Allow.
func (s *Server) dispatch(methods route) http.HandlerFunc {
	allow := []string{"OPTIONS"}
	for m := range methods {
		allow = append(allow, m)
		if m == "GET" {
			allow = append(allow, "HEAD")
		}
	}
	slices.Sort(allow)
	allowed := strings.Join(allow, ", ")
	return func(w http.ResponseWriter, r *http.Request) {
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		switch h := methods[method]; {
		case h != nil:
			h(w, r)
		case method == http.MethodOptions:
			w.Header().Set("Allow", allowed)
			s.options(w, r, allowed)
		default:
			w.Header().Set("Allow", allowed)
			signaling.Problem(w, http.StatusMethodNotAllowed, r.Method+" is not among "+allowed, nil)
		}
	}
}

// handle is the first handler of every request.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		signaling.Problem(w, http.StatusServiceUnavailable, "the box stops", nil)
		return
	}
	defer s.requests.Done()
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "SAMEORIGIN")
	s.cors(w, r)
	if s.cfg.RequireTLS && r.TLS == nil {
		h.Set("Upgrade", "TLS/1.2, HTTP/1.1") // RFC 2817 §4.2
		h.Set("Connection", "Upgrade, close")
		signaling.Problem(w, http.StatusUpgradeRequired, "http.tls.require is set: use https://", nil)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// cors lets pages of http.origins read the answer (Fetch §3.3). Tokens come
// in a header, never in a cookie, so credentials mode is not offered.
func (s *Server) cors(w http.ResponseWriter, r *http.Request) {
	if len(s.cfg.Origins) == 0 {
		return
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !signaling.OriginAllowed(r, s.cfg.Origins) {
		return
	}
	h.Set("Access-Control-Allow-Origin", origin)
	h.Set("Access-Control-Expose-Headers", "Location, ETag, Link, Accept-Patch, Accept-Post, Allow, Retry-After, WWW-Authenticate")
}

// options answers OPTIONS, a browser's preflight among them.
func (s *Server) options(w http.ResponseWriter, r *http.Request, allowed string) {
	h := w.Header()
	switch {
	case r.PathValue("session") != "":
		h.Set("Accept-Patch", "application/trickle-ice-sdpfrag")
	case r.PathValue("camera") != "":
		h.Set("Accept-Post", "application/sdp") // RFC 9725 §4.2
	}
	if h.Get("Access-Control-Allow-Origin") != "" {
		h.Set("Access-Control-Allow-Methods", allowed)
		h.Set("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
		h.Set("Access-Control-Max-Age", "600")
	}
	w.WriteHeader(http.StatusNoContent)
}

func notFound(w http.ResponseWriter, r *http.Request) {
	signaling.Problem(w, http.StatusNotFound, "nothing at "+r.URL.Path, nil)
}
