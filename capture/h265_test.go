package capture_test

import (
	"bytes"
	"os"
	"testing"

	"edged/capture"
)

func TestH265StartsUnit(t *testing.T) {
	for _, tt := range []struct {
		nalu    []byte
		picture bool
		want    bool
	}{
		{[]byte{0x02, 1, 0x80}, false, false},
		{[]byte{0x02, 1, 0x80}, true, true},  // first_slice_segment_in_pic_flag
		{[]byte{0x02, 1, 0x40}, true, false}, // a further slice
		{[]byte{0x40, 1}, true, true},
		{[]byte{0x46, 1}, true, true},
		{[]byte{0x4e, 1}, true, true},
		{[]byte{0x50, 1}, true, false}, // a suffix SEI
		{[]byte{0x4a, 1}, true, false}, // the end of a bitstream
		{[]byte{0x02, 1}, true, false},
		{[]byte{0x40}, true, false},
		{nil, true, false},
	} {
		if got := capture.H265StartsUnit(tt.nalu, tt.picture); got != tt.want {
			t.Errorf("% x after a picture (%v): %v", tt.nalu, tt.picture, got)
		}
	}
}

// film is a recording of 10 pictures of 160 × 90, two of them keyframes.
func film(t *testing.T) (nalus [][]byte) {
	t.Helper()
	b, err := os.ReadFile("file/testdata/clip.h265")
	if err != nil {
		t.Fatal(err)
	}
	return capture.SplitAnnexB(nil, b)
}

func TestH265Params(t *testing.T) {
	all := film(t)
	vps, sps, pps, idr := all[0], all[1], all[2], all[3]
	if !capture.H265HasIRAP([][]byte{idr}) || capture.H265IsKeyframe([][]byte{idr}) || !capture.H265IsKeyframe(all[:4]) {
		t.Error("keyframes are not known")
	}
	var p capture.H265Params
	if got := p.Complete([][]byte{idr}); len(got) != 1 || p.Ready() {
		t.Error("completed with nothing")
	}
	for i, want := range []bool{true, false} {
		if changed, err := p.Observe(all[:4]); changed != want || err != nil {
			t.Errorf("time %d: changed %v, %v", i, changed, err)
		}
	}
	if p.FPS() != 10 || p.Reorders() || !p.Ready() {
		t.Errorf("%v pictures a second, reordered %v", p.FPS(), p.Reorders())
	}
	aud, slice := []byte{0x46, 1, 0x50}, []byte{0x02, 1, 0xd0}
	got := p.Complete([][]byte{aud, idr})
	if len(got) != 4 || !bytes.Equal(got[0], vps) || !bytes.Equal(got[1], sps) || !bytes.Equal(got[2], pps) || !bytes.Equal(got[3], idr) {
		t.Errorf("completed to %d units", len(got))
	}
	if got := p.Complete([][]byte{slice}); len(got) != 1 {
		t.Error("completed what is no keyframe")
	}

	// A new SPS with its PPS takes the place of the old ones; what is broken does not.
	other := bytes.Clone(sps)
	other[len(other)-8] ^= 1 // within the frame rate
	more := append(bytes.Clone(pps), 1)
	if changed, err := p.Observe([][]byte{other, more}); !changed || err != nil {
		t.Error(changed, err)
	}
	if got := p.Complete([][]byte{idr}); len(got) != 4 || !bytes.Equal(got[1], other) || !bytes.Equal(got[2], more) {
		t.Errorf("completed to %d units", len(got))
	}
	if _, err := p.Observe([][]byte{{0x42, 1, 0xff}}); capture.CodeOf(err) != capture.CodeProtocol || err == nil {
		t.Error(err)
	}
	if track, ok := p.Track(); !ok || track.Width != 160 || track.Height != 90 {
		t.Errorf("%+v", track)
	}
	for id := range 20 { // a stream that goes on inventing ids is hostile
		_, err := p.Observe([][]byte{{0x44, 1, 0x80 >> min(id, 5), byte(id), 0xff}})
		if err != nil && capture.CodeOf(err) != capture.CodeProtocol {
			t.Error(err)
		}
	}
	if got := p.Complete([][]byte{idr}); len(got) > 3+8 {
		t.Errorf("%d parameter sets are kept", len(got)-1)
	}
}
