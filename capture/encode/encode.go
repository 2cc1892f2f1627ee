// Package encode turns raw pictures into H.264 behind one interface,
// [Encoder], for the cameras that do not encode themselves. A picture is
// encoded once, whoever looks at it.
package encode

import (
	"image"
	"time"

	"edged/capture"
)

// KeyframeInterval is how often a keyframe comes when nobody asks for one.
// Viewers that join or lose packets ask, and the forwarder keeps the frames
// since the last keyframe; so the interval only bounds what it keeps and how
// long a decoder error may stay. A keyframe costs as much as 5 to 20 other
// frames: more of them would be paid for with the quality of the rest.
const KeyframeInterval = 10 * time.Second

// Config is what to encode.
type Config struct {
	Width, Height int // pixels, even
	FPS           int // frames a second that will come, at most
	Bitrate       int // bits/s not to exceed on average
}

// Unit is one encoded picture.
type Unit struct {
	Data     []byte    // byte stream (annex B); empty where the encoder left the picture out
	Captured time.Time // of the picture
}

// Encoder encodes pictures one after the other. Encode is called by one
// goroutine; the rest may be called from any at any time before Close.
type Encoder interface {
	// Encode blocks for as long as encoding takes. The picture is 4:2:0 of
	// the configured size and is not retained; the unit is valid until the
	// next call. Every keyframe carries its parameter sets.
	Encode(img *image.YCbCr, captured time.Time) (Unit, error)
	// ForceKeyframe makes the next picture a keyframe.
	ForceKeyframe()
	// SetBitrate changes the target in bits/s from the next picture on.
	SetBitrate(bitrate int)
	// Close frees the encoder, which must not be used any more.
	Close() error
}

// New makes an encoder for this box. Where there is none the error has
// [capture.CodeEncoder].
func New(cfg Config) (Encoder, error) {
	switch {
	case cfg.Width < 16 || cfg.Height < 16 || cfg.Width > 4096 || cfg.Height > 2304 || cfg.Width%2+cfg.Height%2 != 0:
		return nil, capture.Errorf(capture.CodeEncoder, "a picture of %d × %d cannot be encoded: even, 16 × 16 to 4096 × 2304", cfg.Width, cfg.Height)
	case cfg.FPS < 1 || cfg.FPS > 120:
		return nil, capture.Errorf(capture.CodeEncoder, "%d frames a second cannot be encoded: 1 to 120", cfg.FPS)
	case cfg.Bitrate < 10_000 || cfg.Bitrate > 100_000_000:
		return nil, capture.Errorf(capture.CodeEncoder, "%d bits/s cannot be encoded: 10 kbit/s to 100 Mbit/s", cfg.Bitrate)
	}
	return newEncoder(cfg)
}
