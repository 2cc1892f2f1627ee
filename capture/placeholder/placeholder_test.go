package placeholder

import (
	"image"
	"strings"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/decode"
	"edged/capture/encode"
)

var notice = capture.Notice{Camera: "dock", Since: time.Date(2026, 3, 4, 12, 3, 0, 0, time.Local), Code: capture.CodeUnplugged}

func newPlaceholder(t testing.TB, width, height int) *Placeholder {
	t.Helper()
	p, err := New(width, height)
	if encode.Name == "" {
		if capture.CodeOf(err) != capture.CodeEncoder {
			t.Fatalf("a build without encoder says %v", err)
		}
		t.Skip("this build has no encoder, and says so")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p.(*Placeholder)
}

func TestWords(t *testing.T) {
	for _, tt := range []struct {
		n    capture.Notice
		now  time.Time
		want string
	}{
		{notice, notice.Since.Add(time.Minute), "dock\ncamera offline since 12:03\nunplugged"},
		{notice, notice.Since.Add(21 * time.Hour), "dock\ncamera offline since 2026-03-04 12:03\nunplugged"},
		{capture.Notice{Camera: "a", Since: notice.Since, Code: capture.CodeNotFound}, notice.Since, "a\ncamera offline since 12:03\nnot found"},
		{capture.Notice{Camera: "a", Since: notice.Since}, notice.Since, "a\ncamera offline since 12:03"},
	} {
		if got := words(tt.n, tt.now); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestSize(t *testing.T) {
	for _, tt := range [][4]int{
		{1280, 720, 640, 360}, {1920, 1080, 640, 360}, {640, 480, 640, 480}, {0, 0, 640, 360},
		{720, 1280, 360, 640}, {1366, 768, 640, 358}, {4096, 16, 640, 160}, {16, 4096, 160, 640},
	} {
		if w, h := size(tt[0], tt[1]); w != tt[2] || h != tt[3] {
			t.Errorf("%d × %d becomes %d × %d", tt[0], tt[1], w, h)
		}
	}
}

// The first picture through a decoder that nobody here wrote: the text is
// there, in the middle, and nothing is around it.
func TestPicture(t *testing.T) {
	p := newPlaceholder(t, 1280, 720)
	f, err := p.Picture(notice, false)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Keyframe {
		t.Error("begins without a keyframe")
	}
	img, err := decode.Keyframe(capture.H264, f.Payloads)
	if err != nil {
		t.Fatal(err)
	}
	if img.Rect != image.Rect(0, 0, 640, 360) {
		t.Fatalf("a picture of %v", img.Rect)
	}
	drawn, differ := 0, 0
	for y := range 360 {
		for x := range 640 {
			was, is := p.img.Y[p.img.YOffset(x, y)] == ink, img.Y[img.YOffset(x, y)] > (ink+ground)/2
			if was {
				drawn++
				if x < 20 || x >= 620 || y < 40 || y >= 320 {
					t.Fatalf("ink at %d, %d", x, y)
				}
			}
			if was != is {
				differ++
			}
		}
	}
	if drawn < 3000 || differ > drawn/20 {
		t.Errorf("%d pixels of text, %d differ once decoded", drawn, differ)
	}
}

// A still picture costs next to nothing after its first, and a keyframe comes
// when it is asked for.
func TestStill(t *testing.T) {
	p := newPlaceholder(t, 640, 480)
	sizes := make([]int, 8)
	for i := range sizes {
		f, err := p.Picture(notice, i == 5)
		if err != nil {
			t.Fatal(err)
		}
		if f.Keyframe != (i == 0 || i == 5) {
			t.Errorf("picture %d: keyframe %v", i, f.Keyframe)
		}
		for _, b := range f.Payloads {
			sizes[i] += len(b)
		}
	}
	if sizes[3] > 500 || sizes[0] > 30_000 {
		t.Errorf("%d bytes", sizes)
	}
}

// Small and narrow pictures leave out what does not fit.
func TestNarrow(t *testing.T) {
	for _, size := range [][2]int{{64, 36}, {36, 640}, {640, 36}} {
		p := newPlaceholder(t, size[0], size[1])
		long := notice
		long.Camera = strings.Repeat("x", 32)
		if _, err := p.Picture(long, true); err != nil {
			t.Errorf("%v: %v", size, err)
		}
	}
}
