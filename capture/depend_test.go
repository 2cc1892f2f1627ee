package capture_test

import (
	"bytes"
	"testing"

	"edged/capture"
)

// What may be left out of a stream without harm to the rest.
func TestDependency(t *testing.T) {
	annexB := func(nalus ...[]byte) (b []byte) {
		for _, n := range nalus {
			b = append(append(b, 0, 0, 0, 1), n...)
		}
		return b
	}
	tail := bytes.Repeat([]byte{0x55}, 20)
	with := func(head ...byte) []byte { return append(head, tail...) }
	for _, c := range []struct {
		name        string
		codec       capture.Codec
		unit        []byte
		discardable bool
		temporal    uint8
	}{
		{"H.264, a reference picture", capture.H264, annexB(with(0x41)), false, 0},
		{"H.264, a B picture that nothing refers to", capture.H264, annexB(with(0x01)), true, 0},
		{"H.264, two slices of it and SEI", capture.H264, annexB(with(0x06), with(0x01), with(0x01)), true, 0},
		{"H.264, one of two slices is referred to", capture.H264, annexB(with(0x01), with(0x41)), false, 0},
		{"H.264, no picture", capture.H264, annexB(with(0x06)), false, 0},
		{"H.264, a keyframe", capture.H264, annexB(with(0x67), with(0x68), with(0x65)), false, 0},
		{"H.265, TRAIL_R", capture.H265, annexB(with(1<<1, 1)), false, 0},
		{"H.265, TRAIL_N", capture.H265, annexB(with(0, 1)), true, 0},
		{"H.265, TSA_R of sub-layer 1", capture.H265, annexB(with(3<<1, 2)), false, 1},
		{"H.265, TSA_N of sub-layer 2", capture.H265, annexB(with(2<<1, 3)), true, 2},
		{"H.265, SEI before RASL_N", capture.H265, annexB(with(39<<1, 1), with(8<<1, 1)), true, 0},
		{"H.265, IDR without parameter sets", capture.H265, annexB(with(20<<1, 1)), false, 0},
		{"VP9, refreshes a slot", capture.VP9, with(0x87, 1), false, 0},
		{"VP9, refreshes nothing", capture.VP9, with(0x87, 0), true, 0},
		{"VP9, may leave probabilities behind", capture.VP9, with(0x86, 0), false, 0},
		{"VP9, not shown", capture.VP9, with(0x85, 0), false, 0},
		{"AV1, no layers", capture.AV1, []byte{6<<3 | 2, 3, 1, 2, 3}, false, 0},
		{"AV1, temporal layer 2 after a delimiter", capture.AV1, []byte{2<<3 | 2, 0, 6<<3 | 4 | 2, 2 << 5, 3, 1, 2, 3}, false, 2},
	} {
		p := packetizer(t, c.codec)
		f := capture.Frame{Discardable: true, Temporal: 7} // of the frame before
		if err := p.Pack(c.unit, &f); err != nil {
			t.Errorf("%s: %v", c.name, err)
		} else if f.Discardable != c.discardable || f.Temporal != c.temporal {
			t.Errorf("%s: discardable %v, temporal layer %d", c.name, f.Discardable, f.Temporal)
		}
	}
}
