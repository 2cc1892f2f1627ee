package capture_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// The camera's clock starts anywhere at each restart; viewers see one clock
// that went on while the camera was away.
func TestCameraTimeline(t *testing.T) {
	starts := []uint32{4_000_000_000, 17, 0xffffff00}
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		sink.Describe([]capture.Track{video})
		if n > len(starts) {
			<-ctx.Done()
			return nil
		}
		frames(ctx, sink, 100, starts[n-1])
		return capture.Errorf(capture.CodeUnplugged, "gone")
	}}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(s.frames) != 300 {
			t.Fatalf("%d frames", len(s.frames))
		}
		for i := 1; i < 300; i++ {
			ticks := float64(s.frames[i].RTPTime - s.frames[i-1].RTPTime)
			passed := s.at[i].Sub(s.at[i-1]).Seconds() * 90000
			if diff := ticks - passed; diff < -2 || diff > 2 {
				t.Fatalf("frame %d: %v ticks after the last, %v passed", i, ticks, passed)
			}
			if want := i%100 == 0; s.frames[i].Lost != want {
				t.Errorf("frame %d: lost %v", i, s.frames[i].Lost)
			}
		}
		if len(s.described) != 1 {
			t.Errorf("described %d times, though nothing changed", len(s.described))
		}
		if st := c.State(); st.Frames[0] != 300 {
			t.Errorf("counters began anew: %v", st.Frames)
		}
	})
}

// A camera that resets its clock without breaking the connection.
func TestCameraClockReset(t *testing.T) {
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		sink.Describe([]capture.Track{video})
		frames(ctx, sink, 30, 2_000_000)
		frames(ctx, sink, 30, 5)
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(_ *capture.Camera, s *sink) {
		time.Sleep(2500 * time.Millisecond)
		synctest.Wait()
		for i := 1; i < len(s.frames); i++ {
			if d := s.frames[i].RTPTime - s.frames[i-1].RTPTime; d < 2900 || d > 3100 {
				t.Errorf("frame %d: %d ticks", i, d)
			}
		}
	})
}

func TestCameraChangesTracks(t *testing.T) {
	larger := video
	larger.Width, larger.Height = 640, 360
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		for _, tr := range []capture.Track{video, video, larger} {
			sink.Describe([]capture.Track{tr})
			frames(ctx, sink, 10, 0)
		}
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if len(s.described) != 2 || s.described[1][0] != larger || c.State().Tracks[0] != larger {
			t.Errorf("described %+v", s.described)
		}
	})
}

// What breaks the contract is dropped, counted and costs the viewer a frame,
// not the process.
func TestCameraDropsBadFrames(t *testing.T) {
	bad := []*capture.Frame{
		{Track: -1, Payloads: [][]byte{{1}}},
		{Track: 1, Payloads: [][]byte{{1}}},
		{},
		{Payloads: [][]byte{{1}, {}}},
		{Payloads: [][]byte{make([]byte, capture.MaxPayload+1)}},
	}
	src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Frame(&capture.Frame{Payloads: [][]byte{{1}}}) // of no track yet
		sink.Describe([]capture.Track{video})
		for _, f := range bad {
			sink.Frame(f)
		}
		frames(ctx, sink, 2, 0)
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		time.Sleep(time.Second)
		synctest.Wait()
		if len(s.frames) != 2 || !s.frames[0].Lost || s.frames[1].Lost {
			t.Errorf("frames %+v", s.frames)
		}
		if st := c.State(); int(st.Dropped) != len(bad)+1 || st.Frames[0] != 2 {
			t.Errorf("dropped %d, counted %v", st.Dropped, st.Frames)
		}
	})
}

func TestCameraRefusesTracks(t *testing.T) {
	for name, tracks := range map[string][]capture.Track{
		"none":       {},
		"kind":       {{Kind: "text", Codec: capture.H264, ClockRate: 1}},
		"codec":      {{Kind: capture.Video, ClockRate: 90000}},
		"clock rate": {{Kind: capture.Video, Codec: capture.H264}},
		"twice":      {video, video},
		"layer":      {{Kind: capture.Video, Layer: 8, Codec: capture.H264, ClockRate: 90000}},
		"many":       make([]capture.Track, 100),
	} {
		src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
			sink.Describe(tracks)
			frames(ctx, sink, 100, 0)
			return nil
		}}
		supervised(t, src, func(c *capture.Camera, s *sink) {
			time.Sleep(50 * time.Millisecond)
			synctest.Wait()
			if st := c.State(); st.Phase != capture.Offline || st.Code != capture.CodeProtocol {
				t.Errorf("%s: %+v", name, st)
			}
			if len(s.described)+len(s.frames) > 0 {
				t.Errorf("%s: reached the sink", name)
			}
		})
	}
}

func TestCameraFrameAllocates(t *testing.T) {
	f := capture.Frame{Payloads: [][]byte{make([]byte, 500)}}
	var n float64
	done := make(chan struct{})
	src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Describe([]capture.Track{video})
		sink.Frame(&f)
		n = testing.AllocsPerRun(100, func() { sink.Frame(&f) })
		close(done)
		<-ctx.Done()
		return nil
	}}
	c, _ := capture.New(capture.Config{ID: "dock"}, src, discard{}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	<-done
	cancel()
	if err := <-ended; err != nil || n != 0 {
		t.Errorf("%v allocations a frame, %v", n, err)
	}
}

// Other ticks: the timeline goes on by the time that passed, counted in them.
func TestCameraClockRateChanges(t *testing.T) {
	slower := video
	slower.ClockRate = 8000
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		sink.Describe([]capture.Track{video})
		frames(ctx, sink, 10, 0)
		sink.Describe([]capture.Track{slower})
		frames(ctx, sink, 1, 77)
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(_ *capture.Camera, s *sink) {
		time.Sleep(time.Second)
		synctest.Wait()
		if len(s.frames) != 11 {
			t.Fatalf("%d frames", len(s.frames))
		}
		if ticks := s.frames[10].RTPTime - s.frames[9].RTPTime; ticks < 260 || ticks > 270 {
			t.Errorf("%d ticks of 1/8000 s for 1/30 s", ticks)
		}
	})
}
