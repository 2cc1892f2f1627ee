// Package v4l2 is a camera that the kernel's Video4Linux drives: a USB camera,
// a grabber. Its raw pictures are encoded on the box; what it encodes itself
// is passed through.
//
// A picture's way: [stream] takes a buffer of the driver ([node]), reads it
// whole into a [Frame] ([format], unpack.go) and gives it back; [Source] has
// the frame encoded, or cut into packets. Devices come and go in hotplug.go.
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
	"slices"
	"strings"
	"sync"
	"sync/atomic"

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
	// maxDamaged is how many pictures in a row may be damaged.
	maxDamaged = 30
	// maxFPS is the most that is believed of a driver.
	maxFPS = 120
)

// Source captures from one device and delivers what it encodes, or encodes it.
type Source struct {
	encode.Control
	device    string // a path, or "auto"
	want      mode
	bitrate   int
	use       string // as capture.VideoConfig.Encoder has it
	layers    int
	controls  capture.Controls
	log       *slog.Logger
	onPicture func(*image.YCbCr) // of tests

	keyframe      atomic.Bool // asked of a camera that encodes
	encodes       atomic.Bool // the camera does
	absent        atomic.Bool // the last run found no device
	lost, damaged atomic.Uint64
	agreed        atomic.Pointer[agreed]
}

// agreed is what the device of a run does.
type agreed struct {
	mode  string
	unmet []string
}

var (
	_ capture.Source      = (*Source)(nil)
	_ capture.LayerDemand = (*Source)(nil)
	_ capture.Awaiter     = (*Source)(nil)
	_ capture.Inputter    = (*Source)(nil)
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
		bitrate:  cmp.Or(cfg.Video.Bitrate, DefaultBitrate),
		use:      cfg.Video.Encoder,
		layers:   cmp.Or(cfg.Video.Layers, 1),
		controls: cfg.Controls,
		log:      log,
	}, nil
}

// Encoder is what encodes the picture; "camera" where the device does.
func (s *Source) Encoder() string {
	if s.encodes.Load() {
		return "camera"
	}
	return s.Control.Encoder()
}

// Input implements [capture.Inputter].
func (s *Source) Input() capture.Input {
	in := capture.Input{Lost: s.lost.Load(), Damaged: s.damaged.Load()}
	if a := s.agreed.Load(); a != nil {
		in.Mode, in.Unmet = a.mode, slices.Clone(a.unmet)
	}
	return in
}

// Keyframe asks for a keyframe: of the encoder, or of the camera where that
// encodes and knows how.
func (s *Source) Keyframe(layer int) {
	s.Control.Keyframe(layer)
	s.keyframe.Store(true)
}

// errDamaged marks a picture that could not be read, after which others may.
var errDamaged = errors.New("damaged picture")

// Run captures until ctx is done or the device fails. It waits for nothing
// but pictures, and no longer than ctx.
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	paths, err := candidates(s.device)
	s.absent.Store(err != nil)
	if err != nil {
		return fmt.Errorf("v4l2: %w", err)
	}
	for _, path := range paths {
		err = s.runDevice(ctx, path, sink)
		if err == nil || !slices.Contains(unsuitable, capture.CodeOf(err)) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("v4l2: %w", err)
	}
	return nil
}

// unsuitable is why automatic choice goes on to the next device: somebody uses
// this one, or it never was one for us.
var unsuitable = []capture.Code{capture.CodeBusy, capture.CodeDenied, capture.CodeCodec, capture.CodeNotFound}

func (s *Source) runDevice(ctx context.Context, path string, sink capture.Sink) error {
	dev, err := open(path, s.want)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() {
		if err := dev.close(); err != nil {
			s.log.Warn("v4l2", "device", path, "err", err)
		}
	}()
	stream, err := s.start(dev)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer context.AfterFunc(ctx, stream.interrupt)()
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching.Go(func() { s.watch(ctx, filepath.Base(path), stream) })
	if err := s.deliver(stream, sink); err != nil && ctx.Err() == nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// watch ends a stream as soon as its device is pulled out: some drivers let
// their readers wait. udev may tell of it when the device is back already.
func (s *Source) watch(ctx context.Context, name string, stream *stream) {
	w, err := watch()
	if err != nil {
		s.log.Debug("v4l2: unplugging is noticed late", "err", err)
		return
	}
	defer w.close()
	if w.await(ctx, func(e uevent) bool { return e.kernel && e.action == "remove" && e.node == name }) == nil {
		stream.unplugged()
	}
}

// Await implements [capture.Awaiter]: a device that is plugged in is tried at
// once.
func (s *Source) Await(ctx context.Context) {
	w, err := watch()
	if err != nil {
		s.log.Debug("v4l2: plugging in is noticed late", "err", err)
		<-ctx.Done()
		return
	}
	defer w.close()
	if s.absent.Load() {
		if _, err := candidates(s.device); err == nil {
			return // it came before w did
		}
	}
	if err := w.await(ctx, uevent.mayAppear); err != nil {
		<-ctx.Done()
	}
}

// start chooses a mode and starts the device in it.
func (s *Source) start(dev *opened) (*stream, error) {
	m, err := s.choose(dev.camera.offers)
	if err != nil {
		return nil, err
	}
	stream, err := dev.start(m)
	if err != nil {
		return nil, err
	}
	unmet := applyControls(stream.node, s.controls) // not before the device is ours
	if len(unmet) > 0 {
		s.log.Warn("v4l2: settings that this camera does not have or take", "unmet", strings.Join(unmet, "; "))
	}
	s.agreed.Store(&agreed{stream.picture.String(), unmet})
	s.log.Info("v4l2 capture", "mode", stream.picture.String())
	return stream, nil
}

// choose takes what costs least of what can be encoded here or passed through.
// Several layers are made of raw pictures, unless the camera has none; where
// there is no encoder, pictures must be encoded already.
func (s *Source) choose(modes []mode) (mode, error) {
	raw := func(f *format) bool { return f.codec == "" }
	encoded := func(f *format) bool { return f.codec != "" }
	prefer := func(*format) bool { return true }
	switch {
	case encode.Name == "":
		prefer = encoded
	case s.layers > 1:
		prefer = raw
	}
	i := choose(modes, s.want, prefer)
	if i < 0 {
		i = choose(modes, s.want, func(*format) bool { return true })
	}
	if i < 0 {
		return mode{}, capture.Errorf(capture.CodeCodec, "none of its formats can be used: H.264, H.265, I420, NV12, NV21, YUYV, UYVY or MJPEG is needed")
	}
	return modes[i], nil
}

// deliver hands on pictures until the stream fails or is interrupted.
func (s *Source) deliver(in *stream, sink capture.Sink) error {
	s.encodes.Store(in.picture.format.codec != "")
	if s.encodes.Load() {
		return s.passThrough(in, sink)
	}
	p := in.picture
	fps := min(max(1, math.Round(cmp.Or(p.fps, s.want.fps))), maxFPS) // drivers say anything
	out, err := encode.NewStream(encode.Config{
		Width: p.width &^ 1, Height: p.height &^ 1, FPS: int(fps), Bitrate: s.bitrate, Use: s.use,
	}, s.layers, sink, &s.Control)
	if err != nil {
		return err
	}
	defer func() {
		if err := out.Close(); err != nil {
			s.log.Warn("v4l2", "err", err)
		}
	}()
	return s.each(in, func(f *Frame, _ bool) error {
		if s.onPicture != nil {
			s.onPicture(&f.YCbCr)
		}
		return out.Deliver(&f.YCbCr, f.Captured)
	})
}

// each reads pictures and counts those that did not come, and those that were
// damaged by the word of the driver or of use. missing tells use that there
// were such before.
func (s *Source) each(in *stream, use func(f *Frame, missing bool) error) error {
	damaged := 0
	for {
		img, _, err := in.Read()
		if err == nil {
			f := img.(*Frame)
			s.lost.Add(uint64(f.Lost))
			err = use(f, f.Lost > 0 || damaged > 0)
		}
		switch {
		case err == nil:
			damaged = 0
		case !errors.Is(err, errDamaged):
			return err
		default:
			s.damaged.Add(1)
			if damaged++; damaged >= maxDamaged {
				return capture.Errorf(capture.CodeProtocol, "%d in a row: %w", damaged, err)
			}
		}
	}
}
