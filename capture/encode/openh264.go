//go:build cgo && linux && (amd64 || arm64 || arm.7)

package encode

/*
#cgo noescape software_encode
#cgo nocallback software_encode
#include "openh264.h"
*/
import "C"

import (
	"image"
	"sync"
	"time"
	"unsafe"

	_ "github.com/pion/mediadevices/pkg/codec/openh264" // the library

	"edged/capture"
)

// Name is the software encoder of this build, empty where there is none.
const Name = "OpenH264 2.1.1"

// software is OpenH264. The library comes with mediadevices; its wrapper is
// left out, which makes garbage of each picture, keeps the frame rate, leaks
// what it outgrows and lets its setters race with its encoding.
type software struct {
	cfg Config
	mu  sync.Mutex // over each call of the library
	enc *C.software
	out C.software_unit
}

func newSoftware(cfg Config) (Encoder, error) {
	enc := C.software_open(C.int(cfg.Width), C.int(cfg.Height), C.float(cfg.FPS), C.int(cfg.Bitrate), C.int(cfg.FPS*int(KeyframeInterval/time.Second)))
	if enc == nil {
		return nil, capture.Errorf(capture.CodeEncoder, "%s: cannot be opened for %d × %d", Name, cfg.Width, cfg.Height)
	}
	return &software{cfg: cfg, enc: enc}, nil
}

func (s *software) Name() string { return Name }

// Encode returns a unit in the library's memory.
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
	if state := C.software_encode(s.enc, first(img.Y), first(img.Cb), first(img.Cr), C.int(img.YStride), C.int(img.CStride), &s.out); state != 0 {
		return Unit{}, capture.Errorf(capture.CodeEncoder, "%s: state %d", Name, int(state))
	}
	return Unit{Data: unsafe.Slice((*byte)(s.out.data), int(s.out.size)), Captured: captured}, nil
}

func first(b []byte) *C.uchar { return (*C.uchar)(unsafe.SliceData(b)) }

// set calls the library unless it is closed. None of the settings can fail:
// each is within what was checked at the start.
func (s *software) set(f func(*C.software)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enc != nil {
		f(s.enc)
	}
}

func (s *software) ForceKeyframe() {
	s.set(func(enc *C.software) { C.software_keyframe(enc) })
}

func (s *software) SetBitrate(bitrate int) {
	s.set(func(enc *C.software) { C.software_bitrate(enc, C.int(bitrate)) })
}

func (s *software) SetFrameRate(fps int) {
	s.set(func(enc *C.software) { C.software_rate(enc, C.float(fps)) })
}

func (s *software) Close() error {
	s.set(func(enc *C.software) { C.software_close(enc) })
	s.mu.Lock()
	defer s.mu.Unlock()
	s.enc = nil
	return nil
}
