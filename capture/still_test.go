package capture_test

import (
	"context"
	"image"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// A camera that encodes: the newest keyframe, of the best layer that has one
// about as new, and the caller's for good.
func TestStillKeyframe(t *testing.T) {
	low := video
	low.Layer = 1
	payload := []byte("high")
	steps := []struct {
		after      time.Duration
		send, want string
	}{
		{1, "low", "low"}, {1, "high", "high"}, {1, "delta", "high"}, {1, "low", "high"}, {6, "low", "low"}, {1, "high", "high"},
	}
	src := &script{run: func(ctx context.Context, s capture.Sink, _ int) error {
		s.Describe([]capture.Track{video, low})
		for _, step := range steps {
			time.Sleep(step.after * time.Second)
			f := capture.Frame{Keyframe: step.send != "delta", Captured: time.Now(), Payloads: [][]byte{[]byte(step.send), {'2'}}}
			switch step.send {
			case "high":
				f.Payloads[0] = payload
			case "low":
				f.Track = 1
			}
			s.Frame(&f)
		}
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		if _, err := c.Still(context.Background()); capture.CodeOf(err) != capture.CodeStalled {
			t.Errorf("before a keyframe: %v", err)
		}
		for _, step := range steps {
			time.Sleep(step.after * time.Second)
			synctest.Wait()
			s, err := c.Still(context.Background())
			if err != nil || s.Codec != capture.H264 || len(s.Payloads) != 2 || string(s.Payloads[0]) != step.want || s.Picture != nil || s.Captured.IsZero() {
				t.Errorf("after %s: %+v, %v; want %s", step.send, s, err, step.want)
			}
			if step.want == "high" && &s.Payloads[0][0] == &payload[0] {
				t.Error("not a copy")
			}
		}
	})
}

// A source that shows its pictures: the next one, as a copy, to all who wait.
func TestStillPicture(t *testing.T) {
	img := image.NewYCbCr(image.Rect(0, 0, 32, 16), image.YCbCrSubsampleRatio420)
	at := time.Now()
	src := &script{run: func(ctx context.Context, s capture.Sink, _ int) error {
		m := capture.NewMux(s) // as a source with sound does
		m.Pictures().Describe([]capture.Track{video})
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for i := byte(1); ; i++ {
			img.Y[0] = i
			m.Pictures().Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{i}}})
			m.Pictures().(capture.PictureSink).Picture(img, at.Add(time.Duration(i)))
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		got := make(chan capture.Still, 3)
		for range cap(got) {
			go func() {
				s, err := c.Still(context.Background())
				if err != nil {
					t.Error(err)
				}
				got <- s
			}()
		}
		synctest.Wait()
		if len(got) != 0 {
			t.Error("an old picture")
		}
		time.Sleep(3500 * time.Millisecond)
		for range cap(got) {
			if s := <-got; s.Picture == nil || s.Picture.Y[0] != 2 || !s.Captured.Equal(at.Add(2)) || s.Codec != "" {
				t.Errorf("%+v", s)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := c.Still(ctx); capture.CodeOf(err) != capture.CodeStalled {
			t.Errorf("nobody waits for ever: %v", err)
		}
	})
}
