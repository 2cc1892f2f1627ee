package forward

import (
	"errors"
	"strings"
)

// Errors that callers branch on.
var (
	// ErrOffer: the SDP offer, or a candidate, cannot be read (HTTP 422).
	ErrOffer = errors.New("bad offer")
	// ErrFull: no more viewers are admitted now (HTTP 503, Retry-After).
	ErrFull = errors.New("the box is full")
	// ErrOffline: the camera has delivered no frame yet, so its codec is unknown (HTTP 503, Retry-After).
	ErrOffline = errors.New("camera offline")
	// ErrGone: the viewer or the SFU has ended.
	ErrGone = errors.New("gone")
)

// CodecError says that viewer and camera have no codec in common (HTTP 406).
type CodecError struct {
	Camera []string // what the camera delivers, with the parameter that decides where that matters
	Viewer []string // what the offer would take, likewise
}

func (e *CodecError) Error() string {
	return "no common codec: camera has " + strings.Join(e.Camera, ", ") + "; viewer offers " + strings.Join(e.Viewer, ", ")
}
