package capture_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
)

// plugged is a camera that tells when it is back, and of its device.
type plugged struct {
	script
	there atomic.Bool
}

func (p *plugged) Await(ctx context.Context) {
	for ctx.Err() == nil && !p.there.Load() {
		time.Sleep(10 * time.Millisecond)
	}
}

func (p *plugged) Input() capture.Input { return capture.Input{Mode: "YUYV 64 × 48", Lost: 3} }

// A camera that is back is tried at once, however long its back-off; but no
// storm of messages makes attempts of no end.
func TestCameraAwaits(t *testing.T) {
	src := &plugged{}
	src.run = func(ctx context.Context, sink capture.Sink, _ int) error {
		if !src.there.Load() {
			return capture.Errorf(capture.CodeNotFound, "nothing there")
		}
		sink.Describe([]capture.Track{video})
		frames(ctx, sink, 1<<20, 0)
		return nil
	}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		time.Sleep(5 * time.Minute) // the back-off is at its longest
		before := time.Now()
		src.there.Store(true)
		time.Sleep(200 * time.Millisecond)
		if st := c.State(); st.Phase != capture.Live {
			t.Errorf("%s %v after it was back", st.Phase, time.Since(before))
		}
		if in := c.State().Input; in.Mode != "YUYV 64 × 48" || in.Lost != 3 {
			t.Errorf("%+v", in)
		}
	})

	storm := &plugged{}
	storm.there.Store(true)
	storm.run = func(context.Context, capture.Sink, int) error {
		return capture.Errorf(capture.CodeNotFound, "nothing there")
	}
	supervised(t, storm, func(*capture.Camera, *sink) {
		time.Sleep(10 * time.Second)
		if n := storm.runs.Load(); n < 50 || n > 110 {
			t.Errorf("%d attempts in 10 s", n)
		}
	})
}
