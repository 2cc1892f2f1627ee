package capture_test

import (
	"context"
	"errors"
	"image"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// tapped runs a camera with a tap in a bubble.
func tapped(t *testing.T, src capture.Source, tap *capture.Tap, test func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c, err := capture.New(capture.Config{ID: "dock", Source: "test:"}, src, &sink{}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		c.SetTap(tap)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		test()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// shows is a source that shows 30 pictures a second, of brightness left of
// the middle and right of it.
func shows(left, right byte, shown *int, mu *sync.Mutex) *script {
	img := image.NewYCbCr(image.Rect(0, 0, 640, 354), image.YCbCrSubsampleRatio420)
	for i := range img.Y {
		if img.Y[i] = left; i%img.YStride >= 320 {
			img.Y[i] = right
		}
	}
	return &script{run: func(ctx context.Context, s capture.Sink, _ int) error {
		s.Describe([]capture.Track{video})
		tick := time.NewTicker(time.Second / 30)
		defer tick.Stop()
		for {
			s.Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{1}}})
			s.(capture.PictureSink).Picture(img, time.Now())
			mu.Lock()
			*shown++
			mu.Unlock()
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}}
}

func TestTapPictures(t *testing.T) {
	var mu sync.Mutex
	shown, looks, wrong, keyframes := 0, 0, 0, 0
	tap := &capture.Tap{Look: func(l capture.Look) {
		mu.Lock()
		defer mu.Unlock()
		looks++
		if l.Keyframe {
			keyframes++ // before the first picture was shown
			return
		}
		if l.Luma.Rect != image.Rect(0, 0, capture.LookWidth, capture.LookHeight) || l.Luma.Pix[79] != 50 || l.Luma.Pix[80] != 200 || l.Captured.IsZero() {
			wrong++
		}
	}, Decode: func(capture.Codec, [][]byte) (*image.YCbCr, error) { return nil, errors.New("not asked for") }}
	tapped(t, shows(50, 200, &shown, &mu), tap, func() {
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if looks < 30 || looks > 41 || wrong > 0 || keyframes > 1 {
			t.Errorf("%d looks in ten seconds, %d wrong, %d of keyframes", looks, wrong, keyframes)
		}
	})
}

// Who takes a minute for a look delays no picture, and is given the next one
// when it comes back.
func TestTapNeverWaits(t *testing.T) {
	var mu sync.Mutex
	shown, looks := 0, 0
	tap := &capture.Tap{Look: func(capture.Look) {
		mu.Lock()
		looks++
		mu.Unlock()
		time.Sleep(time.Minute)
	}, Decode: func(capture.Codec, [][]byte) (*image.YCbCr, error) { return nil, errors.New("not asked for") }}
	tapped(t, shows(1, 2, &shown, &mu), tap, func() {
		time.Sleep(90 * time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if shown < 90*30-1 || looks != 2 {
			t.Errorf("%d pictures, %d looks", shown, looks)
		}
	})
}

// A camera that encodes: its keyframes, decoded at most once a second.
func TestTapKeyframes(t *testing.T) {
	var mu sync.Mutex
	looks, failed, decoded := 0, 0, 0
	gone := errors.New("no decoder")
	tap := &capture.Tap{Look: func(l capture.Look) {
		mu.Lock()
		defer mu.Unlock()
		looks++
		if errors.Is(l.Err, gone) && l.Luma == nil {
			failed++
		} else if l.Err == nil && l.Luma.Pix[0] != 77 {
			t.Errorf("luma %d", l.Luma.Pix[0])
		}
		if !l.Keyframe {
			t.Error("not said to be a keyframe")
		}
	}, Decode: func(c capture.Codec, payloads [][]byte) (*image.YCbCr, error) {
		mu.Lock()
		defer mu.Unlock()
		if decoded++; decoded == 3 {
			return nil, gone
		}
		if c != capture.H264 || len(payloads) != 1 {
			t.Errorf("%s, %d payloads", c, len(payloads))
		}
		img := image.NewYCbCr(image.Rect(0, 0, 32, 18), image.YCbCrSubsampleRatio420)
		for i := range img.Y {
			img.Y[i] = 77
		}
		return img, nil
	}}
	src := &script{run: func(ctx context.Context, s capture.Sink, _ int) error {
		s.Describe([]capture.Track{video})
		for range 300 { // nothing but keyframes
			s.Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{1}}})
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second / 10):
			}
		}
		return nil
	}}
	tapped(t, src, tap, func() {
		time.Sleep(10*time.Second + time.Millisecond)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if looks < 9 || looks > 11 || failed != 1 {
			t.Errorf("%d looks, %d failed", looks, failed)
		}
	})
}
