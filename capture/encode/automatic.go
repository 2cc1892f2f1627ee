package encode

import (
	"errors"
	"fmt"
	"image"
	"sync"
	"time"

	"edged/capture"
)

// automatic is the box's own encoder for as long as that works, and from its
// first failure on the software encoder: what failed once is not trusted
// again before the camera starts anew.
type automatic struct {
	software func(Config) (Encoder, error)
	began    bool // the first picture has been encoded
	last     bool // now is the software encoder

	mu   sync.Mutex // guards all below; Encode alone changes now and name
	cfg  Config
	now  Encoder
	name string
}

// newAutomatic takes the hardware encoder where it opens, else the software
// encoder.
func newAutomatic(cfg Config, hardware, software func(Config) (Encoder, error)) (Encoder, error) {
	a := &automatic{software: software, cfg: cfg}
	now, err := hardware(cfg)
	if err != nil {
		if err := a.fallBack(err); err != nil {
			return nil, err
		}
		return a, nil
	}
	a.now, a.name = now, now.Name()
	return a, nil
}

// fallBack changes to the software encoder for a reason.
func (a *automatic) fallBack(reason error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	next, err := a.software(a.cfg)
	if err != nil {
		code := capture.CodeOf(reason) // what can be done about it
		if code == capture.CodeNotFound {
			code = capture.CodeEncoder
		}
		return capture.Errorf(code, "%w; %w", reason, err)
	}
	a.now, a.last = next, true
	a.name = fmt.Sprintf("%s (%v)", next.Name(), reason)
	return nil
}

// Encode gives a picture that the hardware encoder fails on to the software
// encoder. Hardware proves itself with the first one: an encoder that opens
// may still make nothing that can be played.
func (a *automatic) Encode(img *image.YCbCr, captured time.Time) (Unit, error) {
	if err := a.cfg.check(img); err != nil {
		return Unit{}, capture.Errorf(capture.CodeEncoder, "%s: %w", a.name, err)
	}
	u, err := a.now.Encode(img, captured)
	if err == nil && !a.began && !a.last && !capture.H264IsKeyframe(capture.SplitAnnexB(nil, u.Data)) {
		err = capture.Errorf(capture.CodeEncoder, "%s: the first picture is no keyframe", a.name)
	}
	a.began = true
	if err == nil || a.last {
		return u, err
	}
	if err := a.fallBack(errors.Join(err, a.now.Close())); err != nil {
		return Unit{}, err
	}
	return a.now.Encode(img, captured)
}

// Name is that of the encoder, and why it is software.
func (a *automatic) Name() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.name
}

func (a *automatic) ForceKeyframe() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.now.ForceKeyframe()
}

func (a *automatic) SetBitrate(bitrate int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg.Bitrate = bitrate
	a.now.SetBitrate(bitrate)
}

func (a *automatic) SetFrameRate(fps int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.cfg.FPS = max(1, fps)
	a.now.SetFrameRate(fps)
}

func (a *automatic) Close() error { return a.now.Close() }
