package capture_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// board is a placeholder that notes what it is told.
type board struct {
	mu        *sync.Mutex
	notices   []capture.Notice
	keyframes []bool
	closed    bool
	err       error
	frame     capture.Frame
}

func (b *board) Picture(n capture.Notice, keyframe bool) (*capture.Frame, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	keyframe = keyframe || len(b.notices) == 0
	b.notices, b.keyframes = append(b.notices, n), append(b.keyframes, keyframe)
	b.frame = capture.Frame{Keyframe: keyframe, Payloads: [][]byte{{'p'}}}
	return &b.frame, b.err
}

func (b *board) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// told is what it was asked for.
func (b *board) told() (notices []capture.Notice, keyframes []bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.notices), slices.Clone(b.keyframes)
}

// absent is a camera with placeholders, in a bubble.
type absent struct {
	*capture.Camera
	sink
	boards []*board
	err    error // of the boards
}

func runAbsent(t *testing.T, src capture.Source, cfg capture.PlaceholderConfig, test func(a *absent)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		a := &absent{}
		var err error
		if a.Camera, err = capture.New(capture.Config{ID: "dock", Source: "test:x", Placeholder: cfg}, src, &a.sink, quiet); err != nil {
			t.Fatal(err)
		}
		a.NewPlaceholder = func(width, height int) (capture.Placeholder, error) {
			if width != video.Width || height != video.Height {
				t.Errorf("a placeholder of %d × %d", width, height)
			}
			a.mu.Lock()
			defer a.mu.Unlock()
			b := &board{mu: &a.mu, err: a.err}
			a.boards = append(a.boards, b)
			return b, nil
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- a.Run(ctx) }()
		test(a)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		for _, b := range a.boards {
			if !b.closed {
				t.Error("an encoder was left open")
			}
		}
	})
}

// placeholders are the frames among those delivered that a board made.
func (s *sink) placeholders() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.frames {
		if isPlaceholder(f) {
			n++
		}
	}
	return n
}

func isPlaceholder(f capture.Frame) bool { return string(f.Payloads[0]) == "p" }

// comesAndGoes has a second of pictures, then is gone until back is closed;
// then it begins with a picture that needs the ones before, as a camera that
// was joined in the middle of its stream.
func comesAndGoes(back chan struct{}) *script {
	src := &script{}
	src.run = func(ctx context.Context, s capture.Sink, n int) error {
		frame := capture.Frame{Keyframe: true, Payloads: [][]byte{{'k'}}}
		if n == 1 {
			s.Describe([]capture.Track{video})
			s.Frame(&frame)
			frames(ctx, s, 30, 3000)
			return capture.Errorf(capture.CodeUnplugged, "gone")
		}
		select {
		case <-back:
		default:
			return capture.Errorf(capture.CodeUnreachable, "still gone")
		}
		s.Describe([]capture.Track{video})
		frames(ctx, s, 10, 77)
		frame.RTPTime = 77 + 10*3000
		s.Frame(&frame)
		frames(ctx, s, 1000, 77+11*3000)
		return nil
	}
	return src
}

func TestPlaceholder(t *testing.T) {
	back := make(chan struct{})
	src := comesAndGoes(back)
	runAbsent(t, src, capture.PlaceholderConfig{}, func(a *absent) {
		time.Sleep(9 * time.Second)
		synctest.Wait()
		if a.placeholders() != 0 || a.State().Placeholder {
			t.Error("a placeholder within the grace")
		}
		gone := a.State().LastFrame
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if n := a.placeholders(); n < 7 || n > 10 || !a.State().Placeholder {
			t.Fatalf("%d placeholders, state %v", n, a.State().Placeholder)
		}
		notices, keyframes := a.boards[0].told()
		if n := notices[3]; n.Camera != "dock" || !n.Since.Equal(gone) || n.Code != capture.CodeUnreachable {
			t.Errorf("told %+v", n)
		}
		for i, k := range keyframes {
			if k != (i == 0) {
				t.Errorf("picture %d: keyframe %v", i, k)
			}
		}
		asked, made := src.keyframes.Load(), len(keyframes)
		a.Keyframe(0)
		synctest.Wait()
		if _, k := a.boards[0].told(); len(k) != made+1 || !k[made] || src.keyframes.Load() != asked+1 {
			t.Error("a viewer that asks for a keyframe waits for it")
		}
		close(back)
		time.Sleep(32 * time.Second) // the longest back-off
		synctest.Wait()
		if st := a.State(); st.Placeholder || st.Phase != capture.Live {
			t.Errorf("back: %+v", st)
		}
		if src.keyframes.Load() <= asked+1 {
			t.Error("the camera was not asked for the keyframe that ends the placeholder")
		}
		a.mu.Lock()
		defer a.mu.Unlock()
		checkReturn(t, a.frames)
		if len(a.boards) != 1 || !a.boards[0].closed {
			t.Error("the encoder outlives its use")
		}
	})
}

// checkReturn holds that no viewer sees a delta of the camera on top of a
// placeholder, and that the times go on with the clock.
func checkReturn(t *testing.T, all []capture.Frame) {
	t.Helper()
	standing := false
	for i, f := range all {
		placeholder := isPlaceholder(f)
		if standing != placeholder && !f.Keyframe {
			t.Errorf("frame %d: placeholder %v, after %v, is no keyframe", i, placeholder, standing)
		}
		if standing != placeholder && !f.Lost {
			t.Errorf("frame %d: the cut is not marked", i)
		}
		standing = placeholder
		if i == 0 {
			continue
		}
		ticks := int32(f.RTPTime - all[i-1].RTPTime)
		passed := f.Captured.Sub(all[i-1].Captured)
		if want := int32(passed.Seconds() * 90000); i > 1 && (ticks < want-2 || ticks > want+2) {
			t.Errorf("frame %d: %d ticks in %v", i, ticks, passed)
		}
	}
	if standing {
		t.Error("the camera never took over")
	}
}

func TestPlaceholderGrace(t *testing.T) {
	runAbsent(t, comesAndGoes(make(chan struct{})), capture.PlaceholderConfig{After: 30 * time.Second}, func(a *absent) {
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if a.placeholders() != 0 {
			t.Error("too early")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if a.placeholders() == 0 {
			t.Error("too late")
		}
	})
}

// A camera that never had a picture has no track that could show one.
func TestPlaceholderNeverSeen(t *testing.T) {
	src := &script{run: func(context.Context, capture.Sink, int) error { return errors.New("never") }}
	runAbsent(t, src, capture.PlaceholderConfig{}, func(a *absent) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(a.boards) != 0 || a.State().Placeholder {
			t.Error("a placeholder for nobody")
		}
	})
}

// A codec that is not encoded here: the state alone tells.
func TestPlaceholderOtherCodec(t *testing.T) {
	src := &script{run: func(ctx context.Context, s capture.Sink, n int) error {
		if n == 1 {
			hevc := video
			hevc.Codec = capture.H265
			s.Describe([]capture.Track{hevc})
			frames(ctx, s, 30, 0)
		}
		return errors.New("gone")
	}}
	runAbsent(t, src, capture.PlaceholderConfig{}, func(a *absent) {
		time.Sleep(time.Minute)
		synctest.Wait()
		if len(a.boards) != 0 || a.State().Placeholder || a.placeholders() != 0 {
			t.Error("a placeholder in a codec that viewers of this camera do not decode")
		}
	})
}

// Where it cannot be encoded that is said once, and tried again after the
// camera was live again.
func TestPlaceholderFails(t *testing.T) {
	src := &script{run: func(ctx context.Context, s capture.Sink, n int) error {
		if n > 1 && n%2 == 0 {
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Second):
			}
			return errors.New("gone")
		}
		s.Describe([]capture.Track{video})
		frames(ctx, s, 30, 0)
		return errors.New("gone")
	}}
	runAbsent(t, src, capture.PlaceholderConfig{}, func(a *absent) {
		a.mu.Lock()
		a.err = capture.Errorf(capture.CodeEncoder, "none here")
		a.mu.Unlock()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		if n := len(a.boards); n < 2 || n > 6 {
			t.Errorf("tried %d times", n)
		}
		if shown := slices.ContainsFunc(a.frames, isPlaceholder); shown || a.State().Placeholder {
			t.Error("shown all the same")
		}
	})
}

// Of two layers one goes on: it keeps its own pictures.
func TestPlaceholderBesideLowerLayer(t *testing.T) {
	low := video
	low.Layer = 1
	src := &script{run: func(ctx context.Context, s capture.Sink, n int) error {
		s.Describe([]capture.Track{video, low})
		if n == 1 {
			s.Frame(&capture.Frame{Keyframe: true, Payloads: [][]byte{{'k'}}})
		}
		for i := range uint32(1000) {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second / 10):
			}
			s.Frame(&capture.Frame{Track: 1, Keyframe: i == 0, RTPTime: i * 9000, Payloads: [][]byte{{'k'}}})
		}
		return nil
	}}
	runAbsent(t, src, capture.PlaceholderConfig{}, func(a *absent) {
		time.Sleep(40 * time.Second)
		synctest.Wait()
		a.mu.Lock()
		defer a.mu.Unlock()
		best := 0
		for i, f := range a.frames {
			placeholder := isPlaceholder(f)
			if placeholder && f.Track == 0 {
				best++
			}
			if placeholder && f.Track == 1 {
				t.Errorf("frame %d: a placeholder over a layer with pictures", i)
			}
		}
		if best < 5 {
			t.Errorf("%d placeholders on the best layer", best)
		}
	})
}
