package v4l2

import (
	"fmt"
	"time"
	"unsafe"

	"edged/capture"
)

// passThrough hands on what the camera encodes. Its parameter sets are put in
// front of each keyframe that lacks them.
func (s *Source) passThrough(in *stream, sink capture.Sink) error {
	film, err := capture.NewBitstream(in.picture.format.codec)
	if err != nil {
		return err
	}
	if missing, ok := sink.(capture.LayerSink); ok {
		for i := 1; i < s.layers; i++ {
			missing.LayerFailed(i, capture.Errorf(capture.CodeEncoder, "the camera encodes, in one layer, and has no raw pictures to make others of"))
		}
	}
	// What a camera does not have, it does without.
	_ = setControl(in.node, bitrateControl, int32(s.bitrate))
	_ = setControl(in.node, repeatHeadersControl, 1)
	t := &through{film: film, sink: sink}
	return s.each(in, func(f *Frame, missing bool) error {
		t.lost = t.lost || missing
		if s.keyframe.Swap(false) && !t.deaf {
			c := control{id: forceKeyframeControl}
			t.deaf = in.node.ioctl(vidiocSCtrl, unsafe.Pointer(&c)) != nil // as are all USB cameras
		}
		return t.deliver(f)
	})
}

// through is the way of a camera's access units to the sink.
type through struct {
	film      *capture.Bitstream
	sink      capture.Sink
	deaf      bool // the camera makes no keyframes on demand
	nalus     [][]byte
	frame     capture.Frame
	described capture.Track
	lost      bool
	start     time.Time
}

// deliver hands on one access unit; what makes no sense is errDamaged.
func (t *through) deliver(f *Frame) error {
	t.nalus = capture.SplitAnnexB(t.nalus[:0], f.Unit)
	if len(t.nalus) == 0 {
		return fmt.Errorf("%w: no NAL unit in %d bytes", errDamaged, len(f.Unit))
	}
	if err := t.film.Observe(t.nalus); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if err := t.film.Pack(t.nalus, &t.frame); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	if len(t.frame.Payloads) == 0 {
		return nil
	}
	if t.frame.Keyframe { // what describes the stream comes, or is put, with these alone
		if track, ok := t.film.Track(); ok && track != t.described {
			t.described = track
			t.sink.Describe([]capture.Track{track})
		}
	}
	if t.described.Codec == "" {
		return nil // before the first keyframe
	}
	if t.start.IsZero() {
		t.start = f.Captured
	}
	t.frame.Captured, t.frame.Lost = f.Captured, t.lost
	t.frame.RTPTime = uint32(f.Captured.Sub(t.start).Microseconds() * 9 / 100)
	t.sink.Frame(&t.frame)
	t.lost = false
	return nil
}
