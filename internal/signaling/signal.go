package signaling

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"mime"
	"net/http"
)

// Signal serves one JSON-RPC message, or a batch, over plain HTTP, for
// clients without WebSocket. The token stands in the Authorization header; a
// view is known to requests with the token that opened it. There is nothing
// to notify by: the answer to view.open has all of the box's candidates.
func (s *Server) Signal(w http.ResponseWriter, r *http.Request) {
	token := Bearer(r)
	grant, f := s.admit(token, RemoteAddr(r))
	if f != nil {
		problem(w, f)
		return
	}
	body, f := readBody(w, r, "application/json")
	if f != nil {
		problem(w, f)
		return
	}
	session := s.NewSession(SessionOptions{Remote: RemoteAddr(r), Host: Host(r)})
	sum := sha256.Sum256([]byte(token))
	session.single, session.owner = true, hex.EncodeToString(sum[:])
	session.begin(grant)
	answer := session.receive(r.Context(), []byte(body))
	w.Header().Set("Cache-Control", "no-store")
	if answer == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(answer) // the client may have gone
}

// readBody reads a request's body of one media type, up to maxMessage.
func readBody(w http.ResponseWriter, r *http.Request, want string) (string, *failure) {
	if typ, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || typ != want {
		return "", failf(badType, "want Content-Type: %s", want)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxMessage))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return "", failf(tooLarge, "the body is longer than %d bytes", maxMessage)
	case err != nil:
		return "", failf(badRequest, "the body ended early")
	}
	return string(body), nil
}
