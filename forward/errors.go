package forward

import (
	"errors"
	"strings"

	"edged/forward/ingest"
)

// Errors that callers branch on.
var (
	// ErrOffer: the SDP offer, or a candidate, cannot be read (HTTP 422).
	ErrOffer = errors.New("bad offer")
	// ErrFull: no more viewers are admitted now (HTTP 503, Retry-After).
	ErrFull = errors.New("the box is full")
	// ErrOffline: the camera has delivered no frame yet, so its codec is unknown (HTTP 503, Retry-After).
	ErrOffline = errors.New("camera offline")
	// ErrBusy: the camera has another publisher (HTTP 409).
	ErrBusy = ingest.ErrBusy
	// ErrNoIngest: the camera takes no publisher (HTTP 404).
	ErrNoIngest = errors.New("the camera's source is not whip:, so that nobody can publish to it")
	// ErrGone: the viewer or the SFU has ended.
	ErrGone = errors.New("gone")
)

// CodecError says that viewer and camera have no codec in common (HTTP 406).
type CodecError struct {
	Camera []string // what the camera delivers, with the parameter that decides where that matters; what the box takes of a publisher
	Viewer []string // what the offer would take, likewise

	Publisher []string // what a publisher offers, where it is one
}

func (e *CodecError) Error() string {
	if e.Publisher != nil {
		return "no common codec: the box takes " + strings.Join(e.Camera, ", ") + "; the publisher offers " + strings.Join(e.Publisher, ", ")
	}
	return "no common codec: camera has " + strings.Join(e.Camera, ", ") + "; viewer offers " + strings.Join(e.Viewer, ", ")
}
