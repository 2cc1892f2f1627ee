package capture_test

import (
	"context"
	"testing"
	"time"

	"edged/capture"
)

// A camera that others send to waits for as long as it takes, without being
// started again; what comes then goes on where it was.
func TestCameraWaits(t *testing.T) {
	var phases []capture.Phase
	nobody := capture.Errorf(capture.CodeNoPublisher, "nobody publishes")
	src := &script{run: func(ctx context.Context, s capture.Sink, n int) error {
		waits := s.(capture.WaitingSink)
		if n > 1 {
			<-ctx.Done()
			return nil
		}
		waits.Waiting(nobody)
		time.Sleep(time.Hour)
		s.Describe([]capture.Track{video})
		frames(ctx, s, 90, 4_000_000_000)
		waits.Waiting(nobody)
		waits.Waiting(nobody)
		time.Sleep(5 * time.Second)
		frames(ctx, s, 90, 77)
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		at := func(d time.Duration) capture.State {
			time.Sleep(d)
			st := c.State()
			phases = append(phases, st.Phase)
			return st
		}
		if st := at(30 * time.Minute); st.Phase != capture.Waiting || st.Code != capture.CodeNoPublisher || st.Reason == "" {
			t.Errorf("%+v", st)
		}
		at(30*time.Minute + time.Second)
		if st := at(4 * time.Second); st.Phase != capture.Waiting || len(st.Restarts) != 0 {
			t.Errorf("after the publisher has left: %+v", st)
		}
		if st := at(5 * time.Second); st.Phase != capture.Live {
			t.Errorf("with the next one: %+v", st)
		}
		// It sends no more, and does not say why: that is a stall, as ever.
		if st := at(10 * time.Second); st.Restarts[capture.CodeStalled] != 1 {
			t.Errorf("silent: %+v", st)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.frames) != 180 {
			t.Fatalf("%d frames", len(s.frames))
		}
		a, b := s.frames[89], s.frames[90]
		if gap := time.Duration(int32(b.RTPTime-a.RTPTime)) * time.Second / 90000; gap < 5*time.Second || gap > 5*time.Second+time.Second/10 || !b.Lost || a.Lost {
			t.Errorf("the next publisher's frames come %v later, lost %v", gap, b.Lost)
		}
	})
	if phases[1] != capture.Live {
		t.Errorf("phases %v", phases)
	}
}
