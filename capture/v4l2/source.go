// Package v4l2 is a camera that the kernel's Video4Linux drives: a USB camera,
// a grabber. Its raw pictures are encoded on the box.
package v4l2

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"image"
	"log/slog"
	"math"
	"path/filepath"
	"strings"
	"time"

	"edged/capture"
	"edged/capture/encode"
)

// What is asked of the device where the configuration does not say.
const (
	DefaultWidth   = 1280
	DefaultHeight  = 720
	DefaultFPS     = 30
	DefaultBitrate = 2_500_000
)

const (
	auto = "auto"
	// maxDamaged is how many pictures in a row may be unreadable.
	maxDamaged = 30
)

// Source captures from one device, encodes and delivers.
type Source struct {
	encode.Control
	device    string // a path, or "auto"
	want      mode
	bitrate   int
	encoder   string // as capture.VideoConfig has it
	layers    int
	log       *slog.Logger
	onPicture func(*image.YCbCr) // of tests
}

var (
	_ capture.Source      = (*Source)(nil)
	_ capture.LayerDemand = (*Source)(nil)
)

// New makes the source of a configuration whose Source is "v4l2:auto" or
// "v4l2:" and the path of a device. It opens nothing.
func New(cfg capture.Config, log *slog.Logger) (*Source, error) {
	device, ok := strings.CutPrefix(cfg.Source, "v4l2:")
	if !ok || device != auto && (!strings.HasPrefix(device, "/dev/") || filepath.Clean(device) != device) {
		return nil, fmt.Errorf("source %q: v4l2:auto, or v4l2: and a path as /dev/video0", cfg.Source)
	}
	return &Source{
		device: device,
		want: mode{
			width:  cmp.Or(cfg.Video.Width, DefaultWidth),
			height: cmp.Or(cfg.Video.Height, DefaultHeight),
			fps:    float64(cmp.Or(cfg.Video.FPS, DefaultFPS)),
		},
		bitrate: cmp.Or(cfg.Video.Bitrate, DefaultBitrate),
		encoder: cfg.Video.Encoder,
		layers:  cmp.Or(cfg.Video.Layers, 1),
		log:     log,
	}, nil
}

// errNoPicture is a wait for a picture that ended without one.
var errNoPicture = errors.New("no picture yet")

// errDamaged marks a picture that could not be read, after which others may.
var errDamaged = errors.New("damaged picture")

// device is an open capture device.
type device interface {
	modes() []mode
	// start begins capture in one of the modes.
	start(index int) error
	// read blocks for at most a second: then errNoPicture. The picture is
	// valid until the next call.
	read() (image.Image, error)
	close() error
}

// Run captures until ctx is done or the device fails. It ends within about a
// second, the driver's shortest wait.
func (s *Source) Run(ctx context.Context, sink capture.Sink) (err error) {
	path, err := resolve(s.device)
	if err != nil {
		return fmt.Errorf("v4l2: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("v4l2: %s: %w", path, err)
		}
	}()
	dev, err := open(path)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dev.close(); cerr != nil {
			s.log.Warn("v4l2", "device", path, "err", cerr)
		}
	}()
	return s.capture(ctx, dev, sink)
}

func (s *Source) capture(ctx context.Context, dev device, sink capture.Sink) error {
	modes := dev.modes()
	i := choose(modes, s.want)
	if i < 0 {
		return capture.Errorf(capture.CodeCodec, "none of its %d formats can be encoded: %s are needed", len(modes), strings.Join(formats, ", "))
	}
	m := modes[i]
	fps := cmp.Or(m.fps, s.want.fps)
	convert := newConverter(m.width, m.height)
	stream, err := encode.NewStream(encode.Config{
		Width: m.width &^ 1, Height: m.height &^ 1, FPS: max(1, int(math.Round(fps))), Bitrate: s.bitrate, Use: s.encoder,
	}, s.layers, sink, &s.Control)
	if err != nil {
		return err
	}
	defer func() {
		if err := stream.Close(); err != nil {
			s.log.Warn("v4l2", "err", err)
		}
	}()
	if err := dev.start(i); err != nil {
		return err
	}
	s.log.Info("v4l2 capture", "mode", m.String())
	return s.loop(ctx, dev, convert, stream)
}

func (s *Source) loop(ctx context.Context, dev device, convert *converter, stream *encode.Stream) error {
	damaged := 0
	for ctx.Err() == nil {
		img, err := dev.read()
		captured := time.Now() // the driver below does not tell
		switch {
		case errors.Is(err, errNoPicture):
			continue // whether that is too long is the supervisor's to say
		case errors.Is(err, errDamaged):
			if damaged++; damaged >= maxDamaged {
				return capture.Errorf(capture.CodeProtocol, "%d unreadable pictures in a row: %w", damaged, err)
			}
			continue
		case err != nil:
			return err
		}
		damaged = 0
		yuv, err := convert.convert(img)
		if err != nil {
			return capture.Errorf(capture.CodeProtocol, "%w", err)
		}
		if s.onPicture != nil {
			s.onPicture(yuv)
		}
		if err := stream.Deliver(yuv, captured); err != nil {
			return err
		}
	}
	return nil
}
