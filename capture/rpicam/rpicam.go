// Package rpicam is a camera at a Raspberry Pi's CSI connector. The program
// rpicam-vid, or libcamera-vid as it was called, drives it: libcamera's
// pipelines for these cameras are reached by it and not by V4L2.
//
// Where the Pi has an encoder of H.264, the program encodes; the pictures never
// leave the chip. Else, as on a Pi 5, and for several layers, the pictures come
// raw and are encoded on the box.
package rpicam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"

	"edged/capture"
	"edged/capture/encode"
	"edged/capture/encode/m2m"
)

// What is asked of the camera where the configuration does not say.
const (
	DefaultWidth   = 1280
	DefaultHeight  = 720
	DefaultFPS     = 30
	DefaultBitrate = 2_500_000
)

// keyframeEvery is the time from keyframe to keyframe, in seconds. The program
// cannot be asked for one: who joins gets the newest with what followed, but
// who has lost a frame waits for the next.
const keyframeEvery = 2

// maxCamera is the highest number of a camera: a Compute Module has two
// connectors, and multiplexers come with four.
const maxCamera = 15

// programs are tried in this order.
var programs = []string{"rpicam-vid", "libcamera-vid"}

// Source runs the program and delivers what it writes.
type Source struct {
	encode.Control // of raw pictures
	camera         int
	video          encode.Config
	layers         int
	settings       capture.RPiCamConfig
	log            *slog.Logger

	programs []string
	hasH264  func() bool // the chip encodes
	passed   atomic.Bool // the program encodes in this run
}

var (
	_ capture.Source      = (*Source)(nil)
	_ capture.LayerDemand = (*Source)(nil)
)

// New makes the source of a configuration whose Source is "rpicam:" and the
// number of a camera. It runs nothing.
func New(cfg capture.Config, log *slog.Logger) (*Source, error) {
	number, ok := strings.CutPrefix(cfg.Source, "rpicam:")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 0 || n > maxCamera || strconv.Itoa(n) != number {
		return nil, fmt.Errorf("source %q: rpicam: and the number of a camera, 0 to %d", cfg.Source, maxCamera)
	}
	return &Source{
		camera: n,
		video: encode.Config{
			Width:   cmp.Or(cfg.Video.Width, DefaultWidth),
			Height:  cmp.Or(cfg.Video.Height, DefaultHeight),
			FPS:     cmp.Or(cfg.Video.FPS, DefaultFPS),
			Bitrate: cmp.Or(cfg.Video.Bitrate, DefaultBitrate),
			Use:     cfg.Video.Encoder,
		},
		layers:   cmp.Or(cfg.Video.Layers, 1),
		settings: cfg.RPiCam,
		log:      log,
		programs: programs,
		hasH264:  m2m.Available,
	}, nil
}

// Encoder is what encodes.
func (s *Source) Encoder() string {
	if s.passed.Load() {
		return "rpicam-vid, by the chip"
	}
	return s.Control.Encoder()
}

// Run runs the program until ctx is done or it ends. It takes the whole group
// of processes with it.
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	raw := s.layers > 1 || s.video.Use == capture.EncoderOpenH264 || !s.hasH264()
	s.passed.Store(!raw)
	video := s.video
	if raw {
		// Rows of raw pictures are filled up to 64 bytes: where there is
		// nothing to fill, nothing depends on how.
		video.Width = max(64, video.Width&^63)
	}
	tool, err := start(ctx, s.programs, arguments(s.camera, video, raw, s.settings), !raw)
	if err != nil {
		return fmt.Errorf("rpicam: %w", err)
	}
	s.log.Info("rpicam", "program", tool.name, "camera", s.camera, "raw", raw)
	if raw {
		err = s.encode(tool, video, sink)
	} else {
		err = pass(tool, sink)
	}
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	if ended {
		tool.await()
	}
	tool.stop()
	switch {
	case ctx.Err() != nil:
		return nil
	case ended: // the program's own words say more
		err = tool.why()
	}
	return fmt.Errorf("rpicam: %w", err)
}

// arguments are all that the program is given: numbers and words of our own,
// never text of a configuration.
func arguments(camera int, v encode.Config, raw bool, c capture.RPiCamConfig) []string {
	args := []string{
		"--camera", strconv.Itoa(camera), "--timeout", "0", "--nopreview", "--flush", "--output", "-",
		"--width", strconv.Itoa(v.Width), "--height", strconv.Itoa(v.Height), "--framerate", strconv.Itoa(v.FPS),
	}
	if raw {
		args = append(args, "--codec", "yuv420")
	} else {
		args = append(args, "--codec", "h264", "--profile", "baseline", "--inline",
			"--bitrate", strconv.Itoa(v.Bitrate), "--intra", strconv.Itoa(keyframeEvery*v.FPS), "--save-pts", timesPath)
	}
	switch c.Flip {
	case "horizontal":
		args = append(args, "--hflip")
	case "vertical":
		args = append(args, "--vflip")
	case "both":
		args = append(args, "--rotation", "180")
	}
	for _, word := range []struct {
		option, value string
		known         []string
	}{
		{"--exposure", c.Exposure, capture.RPiCamExposures},
		{"--awb", c.AWB, capture.RPiCamAWBs},
		{"--autofocus-mode", c.Focus, capture.RPiCamFocuses},
	} {
		for _, k := range word.known[1:] { // the first is the program's own default
			if word.value == k {
				args = append(args, word.option, k)
			}
		}
	}
	if c.Shutter > 0 {
		args = append(args, "--shutter", strconv.Itoa(c.Shutter))
	}
	return args
}
