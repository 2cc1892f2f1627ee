package signaling

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"edged/forward"
	"edged/internal/auth"
)

// kind is what went wrong, for both kinds of wire: here, and nowhere else,
// it becomes a JSON-RPC code or an HTTP status.
type kind int

const (
	internal kind = iota
	unauthorized
	forbidden
	unknownCamera
	noCodec
	offline
	full
	limited
	replay
	busy
	noIngest
	badOffer
	unknownView
	gone
	badJSON
	badRequest
	badMethod
	badParams
	badType // this and the following: HTTP only
	tooLarge
	precondition
	noPrecondition
)

var kinds = map[kind]struct {
	name   string // value of the label "result" of the metrics
	rpc    int    // JSON-RPC 2.0 §5.1 and the protocol's own
	status int    // HTTP
}{
	internal:      {"internal", -32603, http.StatusInternalServerError},
	unauthorized:  {"unauthorized", -32001, http.StatusUnauthorized},
	forbidden:     {"forbidden", -32002, http.StatusForbidden},
	unknownCamera: {"unknown_camera", -32003, http.StatusNotFound},
	noCodec:       {"no_codec", -32004, http.StatusNotAcceptable},
	offline:       {"offline", -32005, http.StatusServiceUnavailable},
	full:          {"full", -32006, http.StatusServiceUnavailable},
	limited:       {"rate_limited", -32007, http.StatusTooManyRequests},
	replay:        {"replay", -32008, http.StatusUnauthorized},
	busy:          {"busy", -32602, http.StatusConflict},
	noIngest:      {"no_ingest", -32602, http.StatusNotFound},
	badOffer:      {"bad_offer", -32602, http.StatusUnprocessableEntity},
	unknownView:   {"unknown_view", -32602, http.StatusNotFound},
	gone:          {"gone", -32602, http.StatusNotFound},
	badJSON:       {"parse_error", -32700, http.StatusBadRequest},
	badRequest:    {"invalid_request", -32600, http.StatusBadRequest},
	badMethod:     {"unknown_method", -32601, http.StatusNotFound},
	badParams:     {"invalid_params", -32602, http.StatusBadRequest},

	badType:        {"media_type", -32600, http.StatusUnsupportedMediaType},
	tooLarge:       {"too_large", -32600, http.StatusRequestEntityTooLarge},
	precondition:   {"precondition", -32600, http.StatusPreconditionFailed},
	noPrecondition: {"no_precondition", -32600, http.StatusPreconditionRequired},
}

// failure is an error as the far side is told it.
type failure struct {
	kind   kind
	detail string // for people, without secrets
	retry  time.Duration
}

func (f *failure) Error() string { return f.detail }

func failf(k kind, format string, a ...any) *failure {
	return &failure{kind: k, detail: fmt.Sprintf(format, a...)}
}

// How long a client is asked to wait before it tries again.
const (
	retryOffline = 2 * time.Second
	retryFull    = 5 * time.Second
)

// failureOf tells what an error of the SFU or of the gate means to the far
// side. Errors of no known sort keep their text to themselves.
func failureOf(err error) *failure {
	var f *failure
	var codec *forward.CodecError
	var crowded *forward.FullError
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, auth.ErrReplay):
		return failf(replay, "%v", err)
	case errors.Is(err, auth.ErrToken):
		return failf(unauthorized, "%v", err)
	case errors.As(err, &codec):
		return failf(noCodec, "%v", codec)
	case errors.Is(err, forward.ErrBusy):
		return failf(busy, "%v", err)
	case errors.Is(err, forward.ErrNoIngest):
		return failf(noIngest, "%v", err)
	case errors.Is(err, forward.ErrOffer):
		return failf(badOffer, "%v", err)
	case errors.As(err, &crowded):
		return &failure{full, crowded.Error(), crowded.Retry}
	case errors.Is(err, forward.ErrFull):
		return &failure{full, err.Error(), retryFull}
	case errors.Is(err, forward.ErrOffline):
		return &failure{offline, err.Error(), retryOffline}
	case errors.Is(err, forward.ErrGone):
		return failf(gone, "the view has ended")
	}
	return failf(internal, "internal error")
}

// result is the value of the label "result" for an outcome.
func result(f *failure) string {
	if f == nil {
		return "ok"
	}
	return kinds[f.kind].name
}

// Problem answers a request with application/problem+json (RFC 9457). extra
// holds further members and may be nil.
func Problem(w http.ResponseWriter, status int, detail string, extra map[string]any) {
	doc := map[string]any{"title": http.StatusText(status), "status": status, "detail": detail}
	for k, v := range extra {
		doc[k] = v
	}
	body, err := json.Marshal(doc)
	if err != nil {
		body = []byte(`{"title":"Internal Server Error","status":500}`)
		status = http.StatusInternalServerError
	}
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have gone; there is nobody left to tell
}

// problem answers a request with a failure.
func problem(w http.ResponseWriter, f *failure) {
	status := kinds[f.kind].status
	if f.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(f.retry.Seconds()))))
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="edged", error="invalid_token"`) // RFC 6750 §3
	}
	Problem(w, status, f.detail, map[string]any{"code": kinds[f.kind].name})
}
