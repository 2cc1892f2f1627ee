package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"edged/capture"
	"edged/internal/auth"
	"edged/internal/signaling"
)

// Snapshot is a JPEG of how a camera's scene looks. Its bytes are not changed.
type Snapshot struct {
	JPEG     []byte
	Captured time.Time // when the scene was seen
	Width    int       // pixels
}

const (
	maxSnapshotWidth = 4096
	snapshotRetry    = 2 // seconds until there may be a picture
)

// snapshot answers with the newest picture of a camera. Whoever asks again
// within a second gets the same, and may keep it for as long.
func (s *Server) snapshot(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	g, ok := s.permit(w, r, auth.View, id)
	if !ok {
		return
	}
	if _, ok := s.findCamera(g, id); !ok || s.deps.Snapshot == nil {
		unknownCamera(w, id)
		return
	}
	width, err := snapshotWidth(r)
	if err != nil {
		signaling.Problem(w, http.StatusBadRequest, "width: "+err.Error(), nil)
		return
	}
	shot, err := s.deps.Snapshot(r.Context(), id, width)
	if err != nil {
		snapshotProblem(w, err)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/jpeg")
	h.Set("Cache-Control", "private, max-age=1")
	h.Set("ETag", fmt.Sprintf(`"%x-%d"`, shot.Captured.UnixMicro(), shot.Width))
	http.ServeContent(w, r, "", shot.Captured, bytes.NewReader(shot.JPEG))
}

func snapshotWidth(r *http.Request) (int, error) {
	text := r.URL.Query().Get("width")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > maxSnapshotWidth {
		return 0, fmt.Errorf("%.20q is not in 1..%d pixels", text, maxSnapshotWidth)
	}
	return n, nil
}

func snapshotProblem(w http.ResponseWriter, err error) {
	switch code := capture.CodeOf(err); {
	case errors.Is(err, context.Canceled): // the client has gone
		w.WriteHeader(http.StatusServiceUnavailable)
	case code == capture.CodeCodec:
		signaling.Problem(w, http.StatusNotImplemented, err.Error(), map[string]any{"code": code})
	default:
		w.Header().Set("Retry-After", strconv.Itoa(snapshotRetry))
		signaling.Problem(w, http.StatusServiceUnavailable, err.Error(), map[string]any{"code": code})
	}
}
