//go:build cgo && linux && (amd64 || arm64 || arm.7)

package encode

import (
	"image"
	"testing"
	"time"

	"edged/capture"
)

// bits encodes pictures of a moving scene and returns what each takes, the
// first ones left out.
func bits(t *testing.T, e Encoder, from int) int {
	t.Helper()
	img := newPicture(small)
	sum := 0
	for i := range 60 {
		scene(img, from+i)
		u, err := e.Encode(img, time.Time{})
		if err != nil || len(u.Data) == 0 {
			t.Fatalf("%d bytes, %v", len(u.Data), err)
		}
		if i >= 30 {
			sum += 8 * len(u.Data)
		}
	}
	return sum / 30
}

// Of fewer frames a second each gets more bits.
func TestFrameRate(t *testing.T) {
	cfg := small
	cfg.Bitrate = 200_000
	e, err := newSoftware(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	fast := bits(t, e, 0)
	e.SetFrameRate(10)
	slow := bits(t, e, 60)
	if slow < 2*fast {
		t.Errorf("%d bits a picture of 30 a second, %d of 10", fast, slow)
	}
	if slow > 2*cfg.Bitrate/10 {
		t.Errorf("%d bits a picture of 10 a second at %d bit/s", slow, cfg.Bitrate)
	}
}

// All sizes and rates that New takes.
func TestBounds(t *testing.T) {
	for _, cfg := range []Config{
		{Width: 16, Height: 16, FPS: 1, Bitrate: 10_000}, {Width: 4096, Height: 2304, FPS: 1, Bitrate: 100_000_000},
		{Width: 64, Height: 48, FPS: 120, Bitrate: 100_000}, {Width: 1918, Height: 1078, FPS: 60, Bitrate: 50_000_000},
	} {
		e, err := newSoftware(cfg)
		if err != nil {
			t.Errorf("%+v: %v", cfg, err)
			continue
		}
		img := newPicture(cfg)
		scene(img, 1)
		u, err := e.Encode(img, time.Time{})
		if err != nil || !capture.H264IsKeyframe(capture.SplitAnnexB(nil, u.Data)) {
			t.Errorf("%+v: %d bytes, %v", cfg, len(u.Data), err)
		}
		e.SetFrameRate(1)
		e.SetBitrate(10_000)
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// deaf takes frames and keeps nothing.
type deaf struct{}

func (deaf) Describe([]capture.Track) {}
func (deaf) Frame(*capture.Frame)     {}

// From picture to packets nothing is allocated.
func TestDeliverAllocates(t *testing.T) {
	for _, layers := range []int{1, 2} {
		var control Control
		s, err := NewStream(Config{Width: 640, Height: 360, FPS: 30, Bitrate: 1_000_000, Use: capture.EncoderOpenH264}, layers, deaf{}, &control)
		if err != nil {
			t.Fatal(err)
		}
		pictures := []*image.YCbCr{newPicture(s.layers[0].cfg), newPicture(s.layers[0].cfg)}
		scene(pictures[0], 1)
		scene(pictures[1], 2)
		at, i := time.Now(), 0
		one := func() {
			i++
			at = at.Add(time.Second / 30)
			if err := s.Deliver(pictures[i%2], at); err != nil {
				t.Fatal(err)
			}
		}
		for range 60 { // buffers grow
			one()
		}
		if n := testing.AllocsPerRun(100, one); n != 0 {
			t.Errorf("%d layers: %v allocations a picture", layers, n)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}
