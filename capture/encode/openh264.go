//go:build cgo && linux && (amd64 || arm64 || arm.7)

package encode

import (
	"image"
	"sync"
	"time"

	"github.com/pion/mediadevices/pkg/codec"
	"github.com/pion/mediadevices/pkg/codec/openh264"
	"github.com/pion/mediadevices/pkg/io/video"
	"github.com/pion/mediadevices/pkg/prop"

	"edged/capture"
)

// Name is the software encoder of this build, empty where there is none.
const Name = "OpenH264 2.1.1"

// software is OpenH264 as mediadevices wraps it. The wrapper pulls pictures
// from a reader; ours hands it the one that Encode was called with.
type software struct {
	cfg Config
	mu  sync.Mutex // the wrapper's setters race with its encoding
	enc codec.ReadCloser
	img *image.YCbCr // being encoded
}

func newSoftware(cfg Config) (Encoder, error) {
	params := openh264.Params{
		BaseParams: codec.BaseParams{BitRate: cfg.Bitrate},
		UsageType:  openh264.CameraVideoRealTime,
		RCMode:     openh264.RCBitrateMode,
		// A frame left out is a frame that viewers wait for: rather coarser.
		EnableFrameSkip:   false,
		IntraPeriod:       uint(cfg.FPS * int(KeyframeInterval/time.Second)),
		MultipleThreadIdc: 1, // more gain nothing here and cost the other cameras
		// One slice a picture, so that its packets are of equal size.
		SliceNum:  1,
		SliceMode: openh264.SMSingleSlice,
	}
	s := &software{cfg: cfg}
	enc, err := params.BuildVideoEncoder(video.ReaderFunc(s.picture), prop.Media{Video: prop.Video{
		Width: cfg.Width, Height: cfg.Height, FrameRate: float32(cfg.FPS),
	}})
	if err != nil {
		return nil, capture.Errorf(capture.CodeEncoder, "%s: %w", Name, err)
	}
	s.enc = enc
	return s, nil
}

// picture is the reader's side; Encode holds mu.
func (s *software) picture() (image.Image, func(), error) {
	return s.img, func() {}, nil
}

func (s *software) Encode(img *image.YCbCr, captured time.Time) (Unit, error) {
	// C reads as many bytes as the configured size needs.
	if err := s.cfg.check(img); err != nil {
		return Unit{}, capture.Errorf(capture.CodeEncoder, "%s: %w", Name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc == nil {
		return Unit{}, capture.Errorf(capture.CodeEncoder, "%s: closed", Name)
	}
	s.img = img
	data, _, err := s.enc.Read()
	s.img = nil
	if err != nil {
		return Unit{}, capture.Errorf(capture.CodeEncoder, "%s: %w", Name, err)
	}
	return Unit{Data: data, Captured: captured}, nil
}

func (s *software) Name() string { return Name }

// SetFrameRate does nothing: the wrapper has no such call.
func (s *software) SetFrameRate(int) {}

func (s *software) ForceKeyframe() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc == nil {
		return
	}
	if k, ok := s.enc.Controller().(codec.KeyFrameController); ok {
		_ = k.ForceKeyFrame() // never fails: it sets a flag
	}
}

func (s *software) SetBitrate(bitrate int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc == nil {
		return
	}
	if b, ok := s.enc.Controller().(codec.BitRateController); ok {
		_ = b.SetBitRate(bitrate) // never fails
	}
}

func (s *software) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc == nil {
		return nil
	}
	err := s.enc.Close()
	s.enc = nil
	if err != nil {
		return capture.Errorf(capture.CodeEncoder, "%s: close: %w", Name, err)
	}
	return nil
}
