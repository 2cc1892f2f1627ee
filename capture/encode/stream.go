package encode

import (
	"fmt"
	"image"
	"sync/atomic"
	"time"

	"edged/capture"
)

// Stream is the way of a picture from a camera that does not encode to the
// sink: encoder, packetizer, description. One goroutine calls Deliver.
type Stream struct {
	enc      Encoder
	sink     capture.Sink
	keyframe *atomic.Bool // asked for
	pack     *capture.Packetizer
	params   capture.H264Params
	track    capture.Track
	start    time.Time
	nalus    [][]byte
	frame    capture.Frame
}

// NewStream makes an encoder and what follows it. Who asks for a keyframe
// sets the flag; the next picture takes it back.
func NewStream(cfg Config, sink capture.Sink, keyframe *atomic.Bool) (*Stream, error) {
	pack, err := capture.NewPacketizer(capture.H264)
	if err != nil {
		return nil, err
	}
	enc, err := New(cfg)
	if err != nil {
		return nil, err
	}
	return &Stream{enc: enc, sink: sink, keyframe: keyframe, pack: pack}, nil
}

// Deliver encodes one picture and hands it to the sink before it returns.
func (s *Stream) Deliver(img *image.YCbCr, captured time.Time) error {
	if s.keyframe.Swap(false) {
		s.enc.ForceKeyframe()
	}
	u, err := s.enc.Encode(img, captured)
	if err != nil {
		return err
	}
	s.nalus = capture.SplitAnnexB(s.nalus[:0], u.Data)
	if len(s.nalus) == 0 {
		return nil
	}
	s.pack.H264(s.nalus, &s.frame)
	if s.frame.Keyframe {
		if err := s.describe(); err != nil {
			return err
		}
	}
	if s.start.IsZero() {
		s.start = u.Captured
	}
	s.frame.Captured = u.Captured
	s.frame.RTPTime = uint32(u.Captured.Sub(s.start).Microseconds() * 9 / 100)
	s.sink.Frame(&s.frame)
	return nil
}

// describe tells the sink what the parameter sets say, where that is new.
func (s *Stream) describe() error {
	if _, err := s.params.Observe(s.nalus); err != nil {
		return capture.Errorf(capture.CodeEncoder, "%s: %w", Name, err)
	}
	track, ok := s.params.Track()
	if !ok {
		return capture.Errorf(capture.CodeEncoder, "%s: a keyframe without SPS", Name)
	}
	if track != s.track {
		s.track = track
		s.sink.Describe([]capture.Track{track})
	}
	return nil
}

// Close frees the encoder.
func (s *Stream) Close() error {
	if err := s.enc.Close(); err != nil {
		return fmt.Errorf("encoder: %w", err)
	}
	return nil
}
