package snapshot

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/jpeg"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/capture/decode"
)

// flat is a picture of one colour as video has it.
func flat(width, height int, y, cb, cr byte) *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		img.Y[i] = y
	}
	for i := range img.Cb {
		img.Cb[i], img.Cr[i] = cb, cr
	}
	return img
}

// fake is a camera that counts who asks.
type fake struct {
	asked int
	still capture.Still
	err   error
	block bool
}

func (f *fake) get(ctx context.Context) (capture.Still, error) {
	f.asked++
	if f.block {
		<-ctx.Done()
		return capture.Still{}, capture.Errorf(capture.CodeStalled, "no picture: %w", context.Cause(ctx))
	}
	return f.still, f.err
}

func TestShrink(t *testing.T) {
	for _, tt := range []struct{ w, h, n, wantW, wantH int }{
		{1280, 720, 0, 1280, 720}, {1280, 720, 3, 160, 90}, {1366, 768, 1, 683, 384}, {5, 3, 1, 2, 1}, {3, 1, 3, 1, 1}, {7, 7, 0, 7, 7},
	} {
		got := shrink(flat(tt.w, tt.h, 235, 16, 240), tt.n)
		if got.Rect != image.Rect(0, 0, tt.wantW, tt.wantH) {
			t.Errorf("%d × %d, %d times: %v", tt.w, tt.h, tt.n, got.Rect)
		}
		for i, y := range got.Y {
			if y != 255 {
				t.Fatalf("%d × %d, %d times: luma %d is %d", tt.w, tt.h, tt.n, i, y)
			}
		}
		for i := range got.Cb {
			if got.Cb[i] > 1 || got.Cr[i] < 254 {
				t.Fatalf("%d × %d, %d times: chroma %d is %d, %d", tt.w, tt.h, tt.n, i, got.Cb[i], got.Cr[i])
			}
		}
	}
	mixed := flat(4, 2, 16, 128, 128)
	mixed.Y[0], mixed.Y[1] = 235, 235 // the upper half of the left square
	if got := shrink(mixed, 1); got.Y[0] < 126 || got.Y[0] > 129 || got.Y[1] != 0 {
		t.Errorf("means %v", got.Y[:2])
	}
}

func TestGet(t *testing.T) {
	f := &fake{still: capture.Still{Captured: time.Unix(100, 0), Picture: flat(640, 360, 126, 128, 128)}}
	c := New(f.get)
	defer func() { c.forget.Stop() }()
	for _, tt := range []struct{ width, wantW, wantH int }{
		{0, 640, 360}, {640, 640, 360}, {2000, 640, 360}, {639, 320, 180}, {320, 320, 180}, {100, 80, 45}, {1, 80, 45},
	} {
		s, err := c.Get(t.Context(), tt.width)
		if err != nil {
			t.Fatal(err)
		}
		img, err := jpeg.Decode(bytes.NewReader(s.JPEG))
		if err != nil || img.Bounds().Size() != image.Pt(tt.wantW, tt.wantH) || s.Width != tt.wantW || s.Height != tt.wantH || !s.Captured.Equal(f.still.Captured) {
			t.Errorf("width %d: %v, %v, %+v", tt.width, img.Bounds(), err, s.Captured)
		}
		if y := img.(*image.YCbCr).Y[0]; y < 126 || y > 130 {
			t.Errorf("luma %d", y)
		}
	}
	if f.asked != 1 {
		t.Errorf("the camera was asked %d times within a second", f.asked)
	}
}

// However many ask, the camera is asked once a second, for errors too, and
// what nobody asks for any more is forgotten.
func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{still: capture.Still{Captured: time.Now(), Picture: flat(64, 36, 100, 128, 128)}}
		c := New(f.get)
		var wg sync.WaitGroup
		all := func() {
			for range 20 {
				wg.Go(func() { _, _ = c.Get(t.Context(), 0) })
			}
			wg.Wait()
		}
		all()
		all()
		if f.asked != 1 {
			t.Errorf("asked %d times", f.asked)
		}
		first, _ := c.Get(t.Context(), 0)
		time.Sleep(time.Second)
		again, _ := c.Get(t.Context(), 0)
		if f.asked != 2 || &first.JPEG[0] != &again.JPEG[0] {
			t.Errorf("asked %d times; the same picture was made twice", f.asked)
		}
		f.err = errors.New("gone")
		time.Sleep(time.Second)
		all()
		if _, err := c.Get(t.Context(), 0); f.asked != 3 || !errors.Is(err, f.err) {
			t.Errorf("asked %d times, %v", f.asked, err)
		}
		f.err = nil
		time.Sleep(time.Second)
		if s, err := c.Get(t.Context(), 0); err != nil || s.JPEG == nil {
			t.Errorf("after an error: %v", err)
		}
		time.Sleep(keptFor)
		synctest.Wait()
		if c.img != nil || c.scaled[0].JPEG != nil {
			t.Error("not forgotten")
		}
	})
}

// A camera without a picture answers in time; who leaves leaves no answer.
func TestNoPicture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{block: true}
		c := New(f.get)
		begin := time.Now()
		if _, err := c.Get(t.Context(), 0); capture.CodeOf(err) != capture.CodeStalled || time.Since(begin) != patience {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		time.Sleep(time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(ctx, 0); err == nil {
			t.Error("a picture for nobody")
		}
		f.block, f.still = false, capture.Still{Captured: time.Now(), Picture: flat(16, 16, 1, 1, 1)}
		if _, err := c.Get(t.Context(), 0); err != nil {
			t.Errorf("after one who left: %v", err)
		}
		time.Sleep(keptFor)
	})
}

// A camera that encodes: its keyframe is decoded.
func TestKeyframe(t *testing.T) {
	if !decode.Can(capture.H264) {
		t.Skip("this build has no decoder")
	}
	p, err := capturetest.NewPlayer(nil, 30)
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{still: capture.Still{Captured: time.Unix(5, 0), Codec: capture.H264, Payloads: p.Next().Payloads}}
	c := New(f.get)
	defer func() { c.forget.Stop() }()
	s, err := c.Get(t.Context(), 0)
	if err != nil || s.Width != 320 || s.Height != 180 {
		t.Errorf("%d × %d, %v", s.Width, s.Height, err)
	}
	f = &fake{still: capture.Still{Captured: time.Unix(5, 0), Codec: capture.H265, Payloads: [][]byte{{1}}}}
	c2 := New(f.get)
	_, err = c2.Get(t.Context(), 0)
	defer c2.forget.Stop()
	if capture.CodeOf(err) != capture.CodeCodec {
		t.Errorf("H.265: %v", err)
	}
}

func BenchmarkSnapshot720p(b *testing.B) {
	img := flat(1280, 720, 100, 128, 128)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encode(shrink(img, 0)); err != nil {
			b.Fatal(err)
		}
	}
}
