package signaling

import (
	"net/http"
	"net/url"
	"strings"

	"edged/forward"
	"edged/internal/auth"
)

// Media types of WHEP.
const (
	typeSDP  = "application/sdp"
	typeFrag = "application/trickle-ice-sdpfrag" // RFC 8840 §9
)

// WHEP serves POST on a camera's endpoint: an SDP offer in, the answer with
// all of the box's candidates out, and the URL of the session, which is the
// secret that PATCH and DELETE rest on.
func (s *Server) WHEP(w http.ResponseWriter, r *http.Request, camera string) {
	f := s.whepPost(w, r, camera)
	if f != nil {
		problem(w, f)
	}
	s.stats.message("whep.post", f)
}

func (s *Server) whepPost(w http.ResponseWriter, r *http.Request, camera string) *failure {
	g, offer, f := s.offered(w, r, camera, auth.View, "view this camera")
	if f != nil {
		return f
	}
	v, answer, f := s.join(r.Context(), g, camera, offer)
	if f != nil {
		return f
	}
	s.views.add(v)
	s.created(w, r, "/whep/", v, g, answer)
	return nil
}

// offered reads the offer of somebody whose token lets them do what they ask of
// the camera.
func (s *Server) offered(w http.ResponseWriter, r *http.Request, camera string, right auth.Right, what string) (g auth.Grant, offer string, f *failure) {
	if g, f = s.admit(Bearer(r), RemoteAddr(r)); f != nil {
		return g, "", f
	}
	if !g.Allows(right, camera) {
		return g, "", failf(forbidden, "the token does not permit to %s", what)
	}
	if _, _, ok := s.o.Cameras.Camera(camera); !ok {
		return g, "", failf(unknownCamera, "no camera %.40q", camera)
	}
	offer, f = readBody(w, r, typeSDP)
	return g, offer, f
}

// created answers with a new session, whose URL begins with root.
func (s *Server) created(w http.ResponseWriter, r *http.Request, root string, v *view, g auth.Grant, answer string) {
	h := w.Header()
	h.Set("Location", root+url.PathEscape(v.camera)+"/"+url.PathEscape(v.ID()))
	h.Set("ETag", v.etag)
	h.Set("Accept-Patch", typeFrag)
	for _, link := range links(s.ICEServers(g.Subject, Host(r))) {
		h.Add("Link", link)
	}
	reply(w, http.StatusCreated, typeSDP, answer)
}

// links are ICE servers as Link headers (RFC 9725 §4.6).
func links(servers []forward.ICEServer) []string {
	var list []string
	for _, s := range servers {
		for _, u := range s.URLs {
			link := "<" + u + `>; rel="ice-server"`
			if s.Username != "" {
				link += `; username=` + quote(s.Username) + `; credential=` + quote(s.Credential) + `; credential-type="password"`
			}
			list = append(list, link)
		}
	}
	return list
}

// quote makes a quoted-string (RFC 9110 §5.6.4) of printable ASCII.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c >= ' ' && c < 0x7f:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// WHEPPatch serves PATCH on a session: trickled candidates, or an ICE restart
// where the fragment has a new ufrag (RFC 9725 §4.3).
func (s *Server) WHEPPatch(w http.ResponseWriter, r *http.Request, camera, id string) {
	f := s.patch(w, r, &s.views, camera, id)
	if f != nil {
		problem(w, f)
	}
	s.stats.message("whep.patch", f)
}

// patch serves PATCH on a session of WHEP or WHIP.
func (s *Server) patch(w http.ResponseWriter, r *http.Request, among *registry, camera, id string) *failure {
	v, f := among.find(camera, id)
	if f != nil {
		return f
	}
	body, f := readBody(w, r, typeFrag)
	if f != nil {
		return f
	}
	match := strings.Join(r.Header.Values("If-Match"), ",")
	if match == "" {
		return failf(noPrecondition, "If-Match is required: the ETag of the session, or * to restart ICE")
	}
	frag, err := parseFragment(body)
	if err != nil {
		return failf(badParams, "%v", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if !matches(match, v.etag) {
		return failf(precondition, "the ICE session has been restarted since")
	}
	if frag.ufrag == "" || frag.ufrag == v.ufrag {
		return trickleLocked(w, v, frag)
	}
	return restartICELocked(w, r, v, frag, body)
}

// trickleLocked hands the candidates on; v.mu is held.
func trickleLocked(w http.ResponseWriter, v *view, frag fragment) *failure {
	for _, c := range frag.candidates {
		if err := v.AddCandidate(c, frag.ufrag); err != nil {
			return failureOf(err)
		}
	}
	if frag.end {
		if err := v.AddCandidate("", frag.ufrag); err != nil {
			return failureOf(err)
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// restartICELocked restarts ICE; v.mu is held.
func restartICELocked(w http.ResponseWriter, r *http.Request, v *view, frag fragment, body string) *failure {
	if frag.pwd == "" {
		return failf(badOffer, "sdpfrag: a new ice-ufrag without ice-pwd")
	}
	answer, err := v.restartLocked(r.Context(), body)
	if err != nil {
		return failureOf(err)
	}
	w.Header().Set("ETag", v.etag)
	reply(w, http.StatusOK, typeFrag, iceOf(answer).String())
	return nil
}

// matches is If-Match with strong comparison (RFC 9110 §13.1.1). The star is
// taken quoted too, as RFC 9725's examples write it.
func matches(header, etag string) bool {
	for tag := range strings.SplitSeq(header, ",") {
		switch strings.TrimSpace(tag) {
		case "*", `"*"`, etag:
			return true
		}
	}
	return false
}

// WHEPDelete serves DELETE on a session: the viewer leaves.
func (s *Server) WHEPDelete(w http.ResponseWriter, _ *http.Request, camera, id string) {
	s.stats.message("whep.delete", s.views.end(w, camera, id, "closed by the viewer"))
}

// end serves DELETE on a session of WHEP or WHIP.
func (r *registry) end(w http.ResponseWriter, camera, id, reason string) *failure {
	v, f := r.find(camera, id)
	if f != nil {
		problem(w, f)
		return f
	}
	r.drop(v)
	v.Close(reason)
	w.WriteHeader(http.StatusOK)
	return nil
}

// find gives the session that a URL names.
func (r *registry) find(camera, id string) (*view, *failure) {
	v, ok := r.get(id)
	if !ok || v.camera != camera || v.owner != "" {
		return nil, failf(unknownView, "no such session, or it has ended")
	}
	return v, nil
}

func reply(w http.ResponseWriter, status int, typ, body string) {
	w.Header().Set("Content-Type", typ)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body)) // the client may have gone
}
