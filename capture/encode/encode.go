// Package encode turns raw pictures into H.264 behind one interface,
// [Encoder], for the cameras that do not encode themselves. A picture is
// encoded once, whoever looks at it.
package encode

import (
	"errors"
	"fmt"
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
	Width, Height int    // pixels, even
	FPS           int    // frames a second that will come, at most
	Bitrate       int    // bits/s not to exceed on average
	Use           string // [capture.EncoderAuto], which "" is, [capture.EncoderOpenH264] or [capture.EncoderM2M]
}

// Unit is one encoded picture.
type Unit struct {
	Data     []byte    // byte stream (annex B); empty where the encoder left the picture out
	Captured time.Time // of the picture
}

// Encoder encodes pictures one after the other. Encode is called by one
// goroutine; the rest may be called from any at any time before Close.
type Encoder interface {
	// Name is what encodes, for people, and why it and not another one. It
	// may change with any picture; then that is a keyframe.
	Name() string
	// Encode blocks for as long as encoding takes. The picture is 4:2:0 of
	// the configured size and is not retained; the unit is valid until the
	// next call. Every keyframe carries its parameter sets.
	Encode(img *image.YCbCr, captured time.Time) (Unit, error)
	// ForceKeyframe makes the next picture a keyframe.
	ForceKeyframe()
	// SetBitrate changes the target in bits/s from the next picture on.
	SetBitrate(bitrate int)
	// SetFrameRate says how many frames a second really come, so that the
	// bits are spread over them. An encoder that cannot change that goes on
	// as before, and spends less than its bitrate where fewer come.
	SetFrameRate(fps int)
	// Close frees the encoder, which must not be used any more.
	Close() error
}

// New makes the encoder for this box that cfg.Use says. Where there is none
// the error has [capture.CodeEncoder]; where others use it, [capture.CodeBusy].
func New(cfg Config) (Encoder, error) {
	switch {
	case cfg.Width < 16 || cfg.Height < 16 || cfg.Width > 4096 || cfg.Height > 2304 || cfg.Width%2+cfg.Height%2 != 0:
		return nil, capture.Errorf(capture.CodeEncoder, "a picture of %d × %d cannot be encoded: even, 16 × 16 to 4096 × 2304", cfg.Width, cfg.Height)
	case cfg.FPS < 1 || cfg.FPS > 120:
		return nil, capture.Errorf(capture.CodeEncoder, "%d frames a second cannot be encoded: 1 to 120", cfg.FPS)
	case cfg.Bitrate < 10_000 || cfg.Bitrate > 100_000_000:
		return nil, capture.Errorf(capture.CodeEncoder, "%d bits/s cannot be encoded: 10 kbit/s to 100 Mbit/s", cfg.Bitrate)
	}
	switch cfg.Use {
	case capture.EncoderOpenH264:
		return newSoftware(cfg)
	case capture.EncoderM2M:
		return newHardware(cfg)
	case "", capture.EncoderAuto:
		return newAutomatic(cfg, newHardware, newSoftware)
	}
	return nil, capture.Errorf(capture.CodeEncoder, "there is no encoder %q", cfg.Use)
}

// check looks whether an encoder can read a picture as one of the configured
// size: it is read without further looks at its bounds.
func (c *Config) check(img *image.YCbCr) error {
	w, h := c.Width, c.Height
	if img.Rect.Dx() != w || img.Rect.Dy() != h || img.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return fmt.Errorf("a picture of %d × %d, %v instead of %d × %d, 4:2:0", img.Rect.Dx(), img.Rect.Dy(), img.SubsampleRatio, w, h)
	}
	luma, chroma := (h-1)*img.YStride+w, (h/2-1)*img.CStride+w/2
	if img.YStride < w || img.CStride < w/2 || len(img.Y) < luma || len(img.Cb) < chroma || len(img.Cr) < chroma {
		return errors.New("a picture with planes too small")
	}
	return nil
}
