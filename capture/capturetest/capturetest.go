// Package capturetest is a camera for tests and benchmarks: it plays a
// recording of real H.264 as a [capture.Source], or a frame at a time.
package capturetest

import (
	"context"
	_ "embed"
	"errors"
	"sync/atomic"
	"time"

	"edged/capture"
)

//go:embed testdata/clip.h264
var clip []byte

// ClipFPS is the frame rate of [Clip].
const ClipFPS = 30

// Clip is a moving picture of 320 × 180 as an H.264 byte stream (annex B),
// constrained baseline, 3 s with a keyframe each second. The caller must not
// change it.
func Clip() []byte { return clip }

// Units cuts a byte stream into access units of NAL units, which alias it.
func Units(stream []byte) [][][]byte {
	var (
		units   [][][]byte
		unit    [][]byte
		picture bool
	)
	for _, n := range capture.SplitAnnexB(nil, stream) {
		if capture.H264StartsUnit(n, picture) {
			units, unit, picture = append(units, unit), nil, false
		}
		unit = append(unit, n)
		picture = picture || capture.H264IsPicture(n)
	}
	if picture {
		units = append(units, unit)
	}
	return units
}

// Player hands out a recording frame by frame, over and over, with times that
// go on. Not safe for concurrent use, but for Keyframe.
type Player struct {
	units     [][][]byte
	track     capture.Track
	step      uint32 // RTP time between two frames
	next      int
	frame     capture.Frame
	packetize *capture.Packetizer
	jump      atomic.Bool
}

// NewPlayer reads a byte stream (nil: [Clip]) that plays at fps frames a
// second. It must begin with a keyframe.
func NewPlayer(stream []byte, fps float64) (*Player, error) {
	if stream == nil {
		stream = clip
	}
	if fps <= 0 {
		return nil, errors.New("capturetest: fps must be positive")
	}
	p := &Player{units: Units(stream), step: uint32(90000 / fps)}
	if len(p.units) == 0 || !capture.H264IsKeyframe(p.units[0]) {
		return nil, errors.New("capturetest: the stream does not begin with a keyframe")
	}
	var params capture.H264Params
	if _, err := params.Observe(p.units[0]); err != nil {
		return nil, err
	}
	p.track, _ = params.Track()
	p.packetize, _ = capture.NewPacketizer(capture.H264)
	return p, nil
}

// Tracks describes the one track of the recording.
func (p *Player) Tracks() []capture.Track { return []capture.Track{p.track} }

// Next is the next frame, captured now. It is valid until the next call.
func (p *Player) Next() *capture.Frame {
	if p.jump.Swap(false) {
		p.next = 0
	}
	p.packetize.H264(p.units[p.next], &p.frame)
	p.next = (p.next + 1) % len(p.units)
	p.frame.RTPTime += p.step
	p.frame.Captured = time.Now()
	return &p.frame
}

// Keyframe makes the next frame a keyframe. Any goroutine may call it.
func (p *Player) Keyframe() { p.jump.Store(true) }

// Options of a [Source]; the zero value plays the clip at its rate for ever.
type Options struct {
	Stream []byte           // byte stream; nil: [Clip]
	FPS    float64          // frames a second; 0: [ClipFPS]
	Fast   bool             // as fast as the sink takes them
	Frames int              // end with Err after so many frames of one Run; 0: never
	Err    error            // how Run ends then; nil: unplugged
	Hold   <-chan time.Time // where set, each value lets one frame go, instead of the clock
}

// Source plays a recording as a camera does. It obeys Keyframe at once.
type Source struct {
	opts      Options
	player    *Player
	keyframes atomic.Uint64
	runs      atomic.Uint64
}

var _ capture.Source = (*Source)(nil)

// New makes a source.
func New(opts Options) (*Source, error) {
	if opts.FPS == 0 {
		opts.FPS = ClipFPS
	}
	if opts.Err == nil {
		opts.Err = capture.Errorf(capture.CodeUnplugged, "recording: ended")
	}
	p, err := NewPlayer(opts.Stream, opts.FPS)
	if err != nil {
		return nil, err
	}
	return &Source{opts: opts, player: p}, nil
}

// Run plays until ctx is done, or until as many frames as asked have gone.
func (s *Source) Run(ctx context.Context, sink capture.Sink) error {
	s.runs.Add(1)
	tick := s.opts.Hold
	switch {
	case tick != nil:
	case s.opts.Fast:
		now := make(chan time.Time)
		close(now)
		tick = now
	default:
		t := time.NewTicker(time.Duration(float64(time.Second) / s.opts.FPS))
		defer t.Stop()
		tick = t.C
	}
	s.player.Keyframe()
	sink.Describe(s.player.Tracks())
	for n := 0; s.opts.Frames == 0 || n < s.opts.Frames; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
		if ctx.Err() != nil { // a select picks at random
			return nil
		}
		sink.Frame(s.player.Next())
	}
	return s.opts.Err
}

// Keyframe makes the next frame a keyframe, and counts.
func (s *Source) Keyframe(int) {
	s.keyframes.Add(1)
	s.player.Keyframe()
}

// Keyframes is how often a keyframe was asked for.
func (s *Source) Keyframes() uint64 { return s.keyframes.Load() }

// Runs is how often Run was called.
func (s *Source) Runs() uint64 { return s.runs.Load() }
