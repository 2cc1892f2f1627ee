package rtsp

import (
	"testing"

	"github.com/bluenviron/gortsplib/v5/pkg/format"

	"edged/capture"
	"edged/capture/receive"
)

// Parameter sets of a 160 × 96 picture.
var otherSPS = []byte{0x67, 0x42, 0xc0, 0x0a, 0xda, 0x0a, 0x36, 0x40}

// Pictures out of order are B-frames, and refused; a clock that is set now and
// then is not.
func TestBFrames(t *testing.T) {
	for name, c := range map[string]struct {
		order  []int // of pictures, again and again
		refuse bool
	}{
		"in order":              {[]int{0, 1, 2, 3}, false},
		"one B-frame":           {[]int{0, 2, 1, 3}, true},
		"two B-frames":          {[]int{0, 3, 1, 2}, true},
		"one in seven pictures": {[]int{0, 1, 2, 3, 4, 6, 5}, false}, // no encoder does so
	} {
		f := newFeed(newRecord(), &receive.Clocks{})
		if err := f.begin(&format.H264{SPS: testSPS, PPS: testPPS}); err != nil {
			t.Fatal(err)
		}
		var err error
		for i := 0; i < 400 && err == nil; i++ {
			at := i/len(c.order)*len(c.order) + c.order[i%len(c.order)]
			err = f.units.Push(packet(uint16(i), uint32(at*3600), true, 0x41, 0x9a, 1))
		}
		if refused := capture.CodeOf(err) == capture.CodeCodec; refused != c.refuse || !refused && err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestFeed(t *testing.T) {
	r := newRecord()
	f := newFeed(r, &receive.Clocks{})
	if err := f.begin(&format.H264{}); err != nil {
		t.Fatal(err)
	}
	seq := uint16(0)
	push := func(ts uint32, payloads ...[]byte) {
		t.Helper()
		for i, p := range payloads {
			if err := f.units.Push(packet(seq, ts, i == len(payloads)-1, p...)); err != nil {
				t.Fatal(err)
			}
			seq++
		}
	}
	slice, idr := []byte{0x41, 0x9a, 1}, []byte{0x65, 0x88, 1}

	push(1, slice)
	if len(r.frames) != 0 {
		t.Error("a frame before the picture's size is known")
	}
	f.announce(&format.H264{SPS: []byte{1, 2}, PPS: testPPS})
	push(2, slice)
	if len(r.frames) != 0 {
		t.Error("a broken description is believed")
	}
	f.announce(&format.H264{SPS: testSPS, PPS: testPPS})
	push(3, slice)
	push(4, idr) // sets only in the description: they go out with the picture
	push(5, otherSPS, testPPS, idr)
	push(6, slice)

	if len(r.tracks) != 2 || r.tracks[0].Width != 320 || r.tracks[1].Width != 160 || r.tracks[1].Height != 96 {
		t.Errorf("described as %+v", r.tracks)
	}
	var keys []bool
	for _, fr := range r.frames {
		keys = append(keys, fr.Keyframe)
	}
	if len(keys) != 4 || keys[0] || !keys[1] || !keys[2] || keys[3] {
		t.Errorf("keyframes: %v", keys)
	}
	if err := f.units.Push(packet(seq, 7, true, 0x67, 0)); capture.CodeOf(err) != capture.CodeProtocol {
		t.Error(err)
	}
}
