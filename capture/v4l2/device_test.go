package v4l2

import (
	"context"
	"image"
	"log/slog"
	"os"
	"testing"
	"time"

	"edged/capture"
)

// TestDevice captures from a real device: EDGED_TEST_V4L2 names it, for
// example /dev/video0, or auto.
func TestDevice(t *testing.T) {
	device := os.Getenv("EDGED_TEST_V4L2")
	if device == "" {
		t.Skip("EDGED_TEST_V4L2 names no capture device")
	}
	devices, err := Devices()
	if err != nil || len(devices) == 0 {
		t.Fatalf("devices %+v, %v", devices, err)
	}
	for _, d := range devices {
		t.Logf("device %+v", d)
	}
	s, err := New(capture.Config{
		ID: "v", Source: "v4l2:" + device,
		Video: capture.VideoConfig{Width: 640, Height: 480, FPS: 30, Bitrate: 1_000_000},
	}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	// Twice: a device that was not given back cannot be opened again.
	for range 2 {
		captureOnce(t, s)
	}
}

const enough = 25

func captureOnce(t *testing.T, s *Source) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // an emulated machine is slow
	defer cancel()
	sink := &sink{stop: cancel, enough: enough}
	var shades [256]bool
	s.onPicture = func(img *image.YCbCr) {
		for _, y := range img.Y {
			shades[y] = true
		}
	}
	begin := time.Now()
	if err := s.Run(ctx, sink); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d frames in %v", len(sink.frames), time.Since(begin).Round(time.Millisecond))
	if len(sink.frames) < enough {
		t.Fatalf("%d frames, want %d", len(sink.frames), enough)
	}
	if !sink.frames[0].Keyframe {
		t.Error("the first frame is no keyframe")
	}
	for i := 1; i < len(sink.frames); i++ {
		if d := int32(sink.frames[i].RTPTime - sink.frames[i-1].RTPTime); d <= 0 {
			t.Errorf("frame %d: RTP time moved by %d", i, d)
		}
	}
	if len(sink.tracks) != 1 || sink.tracks[0].Width == 0 {
		t.Errorf("tracks %+v", sink.tracks)
	}
	different := 0
	for _, seen := range shades {
		if seen {
			different++
		}
	}
	if different < 8 && s.Encoder() != "camera" {
		t.Errorf("the pictures have %d shades: nothing was captured", different)
	}
}

// sink keeps what arrives and stops the source after enough frames.
type sink struct {
	stop   func()
	enough int
	tracks []capture.Track
	frames []capture.Frame
}

func (s *sink) Describe(t []capture.Track) { s.tracks = append([]capture.Track(nil), t...) }
func (s *sink) Frame(f *capture.Frame) {
	s.frames = append(s.frames, *f)
	if len(s.frames) == s.enough {
		s.stop()
	}
}
