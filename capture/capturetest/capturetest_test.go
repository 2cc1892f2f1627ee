package capturetest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestClip(t *testing.T) {
	units := Units(Clip())
	if len(units) != 3*ClipFPS {
		t.Fatalf("%d access units, want %d", len(units), 3*ClipFPS)
	}
	for i, u := range units {
		if got, want := capture.H264IsKeyframe(u), i%ClipFPS == 0; got != want {
			t.Errorf("unit %d: keyframe %v, want %v", i, got, want)
		}
	}
}

func TestPlayer(t *testing.T) {
	p, err := NewPlayer(nil, ClipFPS)
	if err != nil {
		t.Fatal(err)
	}
	if tr := p.Tracks()[0]; tr.Width != 320 || tr.Height != 180 || tr.Codec != capture.H264 {
		t.Errorf("track %+v", tr)
	}
	var last uint32
	for i := range 200 {
		f := p.Next()
		if want := i%ClipFPS == 0; f.Keyframe != want {
			t.Fatalf("frame %d: keyframe %v", i, f.Keyframe)
		}
		if i > 0 && f.RTPTime-last != 3000 {
			t.Fatalf("frame %d: %d ticks after the last", i, f.RTPTime-last)
		}
		last = f.RTPTime
	}
	p.Keyframe()
	if !p.Next().Keyframe {
		t.Error("no keyframe after Keyframe")
	}
	if _, err := NewPlayer([]byte{0, 0, 1, 0x41, 0x9a}, 30); err == nil {
		t.Error("a stream without a keyframe was accepted")
	}
}

type counter struct {
	described, frames, keyframes int
}

func (c *counter) Describe([]capture.Track) { c.described++ }
func (c *counter) Frame(f *capture.Frame) {
	c.frames++
	if f.Keyframe {
		c.keyframes++
	}
}

func TestSourcePaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second+time.Millisecond)
		defer cancel()
		var c counter
		if err := s.Run(ctx, &c); err != nil {
			t.Fatal(err)
		}
		if c.described != 1 || c.frames != 60 || c.keyframes != 2 {
			t.Errorf("%+v in two seconds", c)
		}
	})
}

func TestSourceEnds(t *testing.T) {
	s, err := New(Options{Fast: true, Frames: 100})
	if err != nil {
		t.Fatal(err)
	}
	var c counter
	if err := s.Run(t.Context(), &c); capture.CodeOf(err) != capture.CodeUnplugged {
		t.Errorf("ended with %v", err)
	}
	if c.frames != 100 || s.Runs() != 1 {
		t.Errorf("%d frames in %d runs", c.frames, s.Runs())
	}
	s.Keyframe(0)
	if s.Keyframes() != 1 {
		t.Error("the request was not counted")
	}
	want := errors.New("cable")
	s, _ = New(Options{Fast: true, Frames: 1, Err: want})
	if err := s.Run(t.Context(), &c); !errors.Is(err, want) {
		t.Errorf("ended with %v", err)
	}
}
