package encode

import (
	"image"
	"time"

	"edged/capture"
	"edged/capture/encode/m2m"
)

// hardware is the encoder of the box's chip.
type hardware struct {
	*m2m.Encoder
	cfg Config
}

func newHardware(cfg Config) (Encoder, error) {
	e, err := m2m.Open(m2m.Config{
		Width: cfg.Width, Height: cfg.Height, FPS: cfg.FPS, Bitrate: cfg.Bitrate,
		KeyframeInterval: cfg.FPS * int(KeyframeInterval/time.Second),
	})
	if err != nil {
		return nil, err
	}
	return &hardware{e, cfg}, nil
}

func (h *hardware) Encode(img *image.YCbCr, captured time.Time) (Unit, error) {
	if err := h.cfg.check(img); err != nil {
		return Unit{}, capture.Errorf(capture.CodeEncoder, "%s: %w", h.Name(), err)
	}
	data, err := h.Encoder.Encode(img, captured)
	return Unit{Data: data, Captured: captured}, err
}
