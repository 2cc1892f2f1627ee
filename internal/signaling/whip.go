package signaling

import (
	"net/http"
	"time"

	"edged/forward"
	"edged/internal/auth"
)

// WHIP serves POST on a camera that takes a publisher (RFC 9725 §4.2): an SDP
// offer in, the answer with all of the box's candidates out, and the URL of
// the session, which is the secret that PATCH and DELETE rest on.
func (s *Server) WHIP(w http.ResponseWriter, r *http.Request, camera string) {
	f := s.whipPost(w, r, camera)
	if f != nil {
		problem(w, f)
	}
	s.stats.message("whip.post", f)
}

func (s *Server) whipPost(w http.ResponseWriter, r *http.Request, camera string) *failure {
	began := time.Now()
	g, offer, f := s.offered(w, r, camera, auth.Publish, "publish to this camera")
	if f != nil {
		return f
	}
	p, answer, err := s.o.Publish(r.Context(), camera, forward.PublisherOptions{Offer: offer, Subject: g.Subject})
	if err != nil {
		f := failureOf(err)
		if f.kind == internal {
			s.log.Warn("publish", "camera", camera, "err", err)
		}
		return f
	}
	s.stats.handshake(time.Since(began))
	v := newView(p, camera, offer, g)
	s.publishers.add(v)
	s.created(w, r, "/whip/", v, g, answer)
	return nil
}

// WHIPPatch serves PATCH on a publisher's session, as [Server.WHEPPatch].
func (s *Server) WHIPPatch(w http.ResponseWriter, r *http.Request, camera, id string) {
	f := s.patch(w, r, &s.publishers, camera, id)
	if f != nil {
		problem(w, f)
	}
	s.stats.message("whip.patch", f)
}

// WHIPDelete serves DELETE on a publisher's session: it leaves.
func (s *Server) WHIPDelete(w http.ResponseWriter, _ *http.Request, camera, id string) {
	s.stats.message("whip.delete", s.publishers.end(w, camera, id, "closed by the publisher"))
}
