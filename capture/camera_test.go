package capture_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
	"edged/capture/capturetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

var video = capture.Track{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000, Width: 320, Height: 180}

// script is a source that does in each run what its function says.
type script struct {
	run       func(ctx context.Context, sink capture.Sink, n int) error
	runs      atomic.Int32
	keyframes atomic.Int32
}

func (s *script) Run(ctx context.Context, sink capture.Sink) error {
	return s.run(ctx, sink, int(s.runs.Add(1)))
}
func (s *script) Keyframe(int) { s.keyframes.Add(1) }

// frames sends n frames at 30 a second, RTP time from start on.
func frames(ctx context.Context, sink capture.Sink, n int, start uint32) {
	tick := time.NewTicker(time.Second / 30)
	defer tick.Stop()
	for i := range n {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		sink.Frame(&capture.Frame{RTPTime: start + uint32(i)*3000, Captured: time.Now(), Payloads: [][]byte{make([]byte, 500)}})
	}
}

// sink keeps what arrives.
type sink struct {
	mu        sync.Mutex
	described [][]capture.Track
	frames    []capture.Frame
	at        []time.Time
}

func (s *sink) Describe(t []capture.Track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.described = append(s.described, append([]capture.Track(nil), t...))
}

func (s *sink) Frame(f *capture.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames, s.at = append(s.frames, *f), append(s.at, time.Now())
}

// supervised runs a camera in a bubble for as long as test takes, and checks
// that it ends.
func supervised(t *testing.T, src capture.Source, test func(c *capture.Camera, s *sink)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sink{}
		c, err := capture.New(capture.Config{ID: "dock", Source: "test:x"}, src, s, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		test(c, s)
		cancel()
		begin := time.Now()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if took := time.Since(begin); took > 3*time.Second {
			t.Errorf("took %v to end", took)
		}
	})
}

func TestNewCamera(t *testing.T) {
	for _, tt := range []struct {
		id  string
		src capture.Source
	}{{"", &script{}}, {"dock", nil}} {
		if _, err := capture.New(capture.Config{ID: tt.id}, tt.src, &sink{}, quiet); err == nil {
			t.Errorf("%q, %v was accepted", tt.id, tt.src)
		}
	}
}

func TestCameraLive(t *testing.T) {
	src, err := capturetest.New(capturetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		if st := c.State(); st.Phase != capture.Starting || st.ID != "dock" || st.Kind != "test" {
			t.Errorf("before a frame: %+v", st)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		st := c.State()
		if st.Phase != capture.Live || st.Code != "" || st.Encoder != "camera" || len(st.Tracks) != 1 {
			t.Errorf("%+v", st)
		}
		if st.FPS[0] < 29 || st.FPS[0] > 31 || st.Bitrate[0] < 300_000 || st.Bitrate[0] > 900_000 {
			t.Errorf("%v frames/s, %v bits/s", st.FPS, st.Bitrate)
		}
		if st.Frames[0] != 300 && st.Frames[0] != 299 || st.Bytes[0] == 0 || time.Since(st.LastFrame) > time.Second {
			t.Errorf("%d frames, %d bytes, the last at %v", st.Frames[0], st.Bytes[0], st.LastFrame)
		}
		c.Keyframe(0)
		if src.Keyframes() != 1 || c.State().Keyframes != 1 {
			t.Error("the request for a keyframe did not arrive")
		}
		if len(s.described) != 1 || !s.frames[0].Keyframe {
			t.Errorf("described %d times", len(s.described))
		}
		if s.frames[0].Lost {
			t.Error("a loss before the first frame of all")
		}
	})
}

// A source that goes silent is restarted after 3 s; at ten frame intervals
// where frames come more slowly.
func TestCameraStalls(t *testing.T) {
	for _, tt := range []struct {
		interval time.Duration
		patience time.Duration
	}{{time.Second / 30, 3 * time.Second}, {2 * time.Second, 20 * time.Second}} {
		var silent, cancelled time.Time
		var cause error
		src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
			sink.Describe([]capture.Track{video})
			for range 20 {
				select {
				case <-ctx.Done():
					return nil
				case <-time.After(tt.interval):
				}
				sink.Frame(&capture.Frame{Payloads: [][]byte{{1}}})
			}
			if n == 1 {
				silent = time.Now()
			}
			<-ctx.Done()
			if n == 1 {
				cancelled, cause = time.Now(), context.Cause(ctx)
			}
			return nil
		}}
		supervised(t, src, func(c *capture.Camera, _ *sink) {
			time.Sleep(20*tt.interval + tt.patience + time.Millisecond)
			synctest.Wait()
			if got := cancelled.Sub(silent); got != tt.patience || capture.CodeOf(cause) != capture.CodeStalled {
				t.Errorf("cancelled %v after the last frame: %v", got, cause)
			}
			st := c.State()
			if st.Phase != capture.Stalled || st.Code != capture.CodeStalled || !strings.Contains(st.Reason, "no frame for") {
				t.Errorf("%+v", st)
			}
			if st.Restarts[capture.CodeStalled] != 1 {
				t.Errorf("restarts %v", st.Restarts)
			}
			time.Sleep(time.Second + 2*tt.interval)
			synctest.Wait()
			if st := c.State(); st.Phase != capture.Live || src.runs.Load() != 2 {
				t.Errorf("after the restart: %s, %d runs", st.Phase, src.runs.Load())
			}
		})
	}
}

func TestCameraFirstFrame(t *testing.T) {
	src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
		sink.Describe([]capture.Track{video})
		<-ctx.Done()
		return ctx.Err()
	}}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		time.Sleep(10*time.Second - time.Millisecond)
		if st := c.State(); st.Phase != capture.Starting {
			t.Errorf("too early: %+v", st)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if st := c.State(); st.Code != capture.CodeStalled || st.Reason != "no frame within 10s" {
			t.Errorf("%+v", st)
		}
	})
}

// Sound that goes on under a frozen picture is no sign of life.
func TestCameraSoundAlone(t *testing.T) {
	sound := capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}
	for _, tracks := range [][]capture.Track{{sound, video}, {sound}} {
		src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
			sink.Describe(tracks)
			frames(ctx, sink, 1e6, 0)
			return nil
		}}
		supervised(t, src, func(c *capture.Camera, _ *sink) {
			time.Sleep(11 * time.Second)
			synctest.Wait()
			want := capture.Live
			if len(tracks) == 2 {
				want = capture.Stalled
			}
			if st := c.State(); st.Phase != want {
				t.Errorf("%d tracks: %+v", len(tracks), st)
			}
		})
	}
}

func TestCameraBacksOff(t *testing.T) {
	var starts []time.Time
	src := &script{run: func(context.Context, capture.Sink, int) error {
		starts = append(starts, time.Now())
		return capture.Errorf(capture.CodeRefused, "rtsp://10.0.0.5/: %w", io.EOF)
	}}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		time.Sleep(time.Hour)
		synctest.Wait()
		st := c.State()
		if st.Phase != capture.Offline || st.Code != capture.CodeRefused || st.Reason != "rtsp://10.0.0.5/: EOF" {
			t.Errorf("%+v", st)
		}
		if int(st.Restarts[capture.CodeRefused]) != len(starts) {
			t.Errorf("%v restarts in %d runs", st.Restarts, len(starts))
		}
		// A mean of 15 s: 240 in an hour.
		if len(starts) < 150 || len(starts) > 400 {
			t.Errorf("%d attempts in an hour", len(starts))
		}
		ceiling := 500 * time.Millisecond
		for i := 1; i < len(starts); i++ {
			if wait := starts[i].Sub(starts[i-1]); wait > ceiling || wait < 100*time.Millisecond {
				t.Errorf("attempt %d came %v after the last", i, wait)
			}
			ceiling = min(2*ceiling, 30*time.Second)
		}
	})
}

// Where nobody is there to be bothered, and where pictures come for a while,
// the next attempt comes soon, however many came to nothing.
func TestCameraTriesAgainSoon(t *testing.T) {
	for name, fail := range map[string]func(context.Context, capture.Sink) error{
		"not there": func(context.Context, capture.Sink) error {
			return fmt.Errorf("the yard: %w", &capture.Error{Code: capture.CodeRefused, Err: io.EOF, Soon: true})
		},
		"pictures for two seconds": func(ctx context.Context, sink capture.Sink) error {
			sink.Describe([]capture.Track{video})
			frames(ctx, sink, 60, 0)
			return capture.Errorf(capture.CodeUnplugged, "gone")
		},
	} {
		t.Run(name, func(t *testing.T) {
			var ended time.Time
			var longest time.Duration
			src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
				if n > 1 {
					longest = max(longest, time.Since(ended))
				}
				err := fail(ctx, sink)
				ended = time.Now()
				return err
			}}
			supervised(t, src, func(*capture.Camera, *sink) {
				time.Sleep(20 * time.Minute)
				synctest.Wait()
				if longest > 1500*time.Millisecond || longest < time.Second {
					t.Errorf("up to %v between two attempts", longest)
				}
			})
		})
	}
}

// After a minute live the back-off begins anew.
func TestCameraBackOffResets(t *testing.T) {
	var ended time.Time
	var wait time.Duration
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		switch {
		case n <= 10:
			return capture.Errorf(capture.CodeUnreachable, "no route")
		case n == 11:
			sink.Describe([]capture.Track{video})
			frames(ctx, sink, 30*61, 0)
			ended = time.Now()
			return capture.Errorf(capture.CodeUnplugged, "gone")
		case wait == 0:
			wait = time.Since(ended)
		}
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(*capture.Camera, *sink) {
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if wait == 0 || wait > 500*time.Millisecond {
			t.Errorf("restarted %v after a minute live", wait)
		}
	})
}

func TestCameraUnmet(t *testing.T) {
	for _, code := range []capture.Code{capture.CodeEncoder, capture.CodeDenied} {
		src := &script{run: func(context.Context, capture.Sink, int) error {
			return fmt.Errorf("v4l2: %w", capture.Errorf(code, "cannot"))
		}}
		supervised(t, src, func(c *capture.Camera, _ *sink) {
			time.Sleep(14 * time.Second)
			synctest.Wait()
			if st := c.State(); st.Phase != capture.Unmet || st.Code != code || src.runs.Load() != 1 {
				t.Errorf("%s: %+v, %d runs", code, st, src.runs.Load())
			}
			time.Sleep(10 * time.Minute)
			if n := src.runs.Load(); n < 20 || n > 41 {
				t.Errorf("%s: %d attempts in ten minutes", code, n)
			}
		})
	}
}

func TestCameraSurvivesPanic(t *testing.T) {
	src := &script{run: func(context.Context, capture.Sink, int) error {
		var none []int
		_ = none[3]
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		st := c.State()
		if st.Code != capture.CodePanic || !strings.Contains(st.Reason, "panic at camera_test.go:") || !strings.Contains(st.Reason, "index out of range") {
			t.Errorf("%+v", st)
		}
	})
}

func TestCameraSourceReturnsNothing(t *testing.T) {
	src := &script{run: func(context.Context, capture.Sink, int) error { return nil }}
	supervised(t, src, func(c *capture.Camera, _ *sink) {
		synctest.Wait()
		if st := c.State(); st.Code != capture.CodeUnplugged || st.Phase != capture.Offline {
			t.Errorf("%+v", st)
		}
	})
}

// A source that does not return is said so and never doubled; what it still
// sends goes nowhere.
func TestCameraSourceDoesNotStop(t *testing.T) {
	release := make(chan struct{})
	var running, most atomic.Int32
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		sink.Describe([]capture.Track{video})
		frames(ctx, sink, 10, 0)
		if n == 1 {
			<-release
			sink.Frame(&capture.Frame{Payloads: [][]byte{{9}}})
			return errors.New("at last")
		}
		frames(ctx, sink, 1e6, 0)
		return nil
	}}
	synctest.Test(t, func(t *testing.T) {
		release = make(chan struct{})
		s := &sink{}
		c, err := capture.New(capture.Config{ID: "dock", Source: "test:"}, src, s, quiet)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if st := c.State(); st.Phase != capture.Stalled || !strings.Contains(st.Reason, "does not stop") || src.runs.Load() != 1 {
			t.Errorf("%+v, %d runs", st, src.runs.Load())
		}
		close(release)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if st := c.State(); st.Phase != capture.Live || most.Load() != 1 {
			t.Errorf("%+v, %d at once", st, most.Load())
		}
		for _, f := range s.frames {
			if len(f.Payloads[0]) == 1 {
				t.Error("a frame of a run that was over")
			}
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// The end of the camera waits for a hanging source no longer than 3 s.
func TestCameraEndsWithoutItsSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		src := &script{run: func(ctx context.Context, _ capture.Sink, _ int) error {
			<-release
			return nil
		}}
		c, _ := capture.New(capture.Config{ID: "dock"}, src, &sink{}, quiet)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := c.Run(ctx); err != nil || time.Since(begin) != 4*time.Second {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
		close(release)
	})
}

func TestCameraOnChange(t *testing.T) {
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		if n == 1 {
			return capture.Errorf(capture.CodeNotFound, "no such path")
		}
		sink.Describe([]capture.Track{video})
		frames(ctx, sink, 1e6, 0)
		return nil
	}}
	synctest.Test(t, func(t *testing.T) {
		c, _ := capture.New(capture.Config{ID: "dock", Source: "test:"}, src, &sink{}, quiet)
		var mu sync.Mutex
		var seen []string
		c.OnChange = func() {
			st := c.State() // no lock is held
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprint(st.Phase, st.Code, len(st.Tracks)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(seen, " "), "offlinenot_found0 offlinenot_found1 live1"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	})
}

type discard struct{}

func (discard) Describe([]capture.Track) {}
func (discard) Frame(*capture.Frame)     {}
