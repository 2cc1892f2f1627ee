// Package pattern is a camera that needs no hardware: a moving picture with a
// frame counter and the time of day, for people and as a block code that a
// program reads from a screenshot. From the code follow latency and loss on
// the whole way to a viewer. With sound it beeps and flashes once a second.
package pattern

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"edged/capture"
	"edged/capture/encode"
)

// What is encoded where the configuration does not say.
const (
	DefaultWidth   = 1280
	DefaultHeight  = 720
	DefaultFPS     = 30
	DefaultBitrate = 2_500_000
)

// Source draws, encodes and delivers, a frame after the other.
type Source struct {
	encode.Control
	cfg    encode.Config
	layers int
	sound  bool
	log    *slog.Logger
	next   uint32 // frame to draw; goes on when the source runs again
}

var (
	_ capture.Source      = (*Source)(nil)
	_ capture.LayerDemand = (*Source)(nil)
)

// New makes the source of a configuration whose Source is "pattern:".
func New(cfg capture.Config, log *slog.Logger) (*Source, error) {
	if cfg.Source != "pattern:" {
		return nil, fmt.Errorf("source %q: the pattern takes no more than \"pattern:\"", cfg.Source)
	}
	c := encode.Config{
		Width:   cmp.Or(cfg.Video.Width, DefaultWidth),
		Height:  cmp.Or(cfg.Video.Height, DefaultHeight),
		FPS:     cmp.Or(cfg.Video.FPS, DefaultFPS),
		Bitrate: cmp.Or(cfg.Video.Bitrate, DefaultBitrate),
		Use:     cfg.Video.Encoder,
	}
	if c.Width < minReadable || c.Height < minReadable/2 {
		return nil, fmt.Errorf("pattern: %d × %d is too small for its code: at least %d × %d", c.Width, c.Height, minReadable, minReadable/2)
	}
	layers := cmp.Or(cfg.Video.Layers, 1)
	if most := len(encode.Layers(c, layers)); layers != most {
		return nil, fmt.Errorf("pattern: %d × %d is enough for %d layers, not for %d", c.Width, c.Height, most, layers)
	}
	return &Source{cfg: c, layers: layers, sound: cfg.Audio.Enabled, log: log}, nil
}

// Run draws until ctx is done, and beeps where it is to. A frame goes out as
// soon as it is drawn and encoded; where encoding falls behind the rate,
// frames are left out.
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	mux := capture.NewMux(sink)
	var second [][]byte // of sound
	if s.sound {
		var err error
		if second, err = encodeSecond(); err != nil {
			return fmt.Errorf("pattern: %w", err)
		}
		mux.Sound().Describe([]capture.Track{soundTrack}) // first, so that nobody joins without
	}
	stream, err := encode.NewStream(s.cfg, s.layers, mux.Pictures(), &s.Control)
	if err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	defer func() {
		if err := stream.Close(); err != nil {
			s.log.Warn("pattern", "err", err)
		}
	}()
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	var voice sync.WaitGroup
	if s.sound {
		voice.Go(func() { speak(ctx, start, second, mux.Sound()) })
	}
	err = s.paint(ctx, start, stream)
	cancel()
	voice.Wait()
	if err != nil {
		return fmt.Errorf("pattern: %w", err)
	}
	return nil
}

// paint draws and delivers pictures from a moment on.
func (s *Source) paint(ctx context.Context, start time.Time, stream *encode.Stream) error {
	p := newPicture(s.cfg.Width, s.cfg.Height)
	// A ticker keeps its phase and drops what nobody waited for.
	interval := time.Second / time.Duration(s.cfg.FPS)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		captured := time.Now()
		if s.sound {
			p.flash(flashes(captured.Sub(start), interval))
		}
		if err := stream.Deliver(p.draw(Code{Frame: s.next, Time: captured}), captured); err != nil {
			return err
		}
		s.next++
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
