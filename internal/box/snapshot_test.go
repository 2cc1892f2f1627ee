package box

import (
	"bytes"
	"image"
	"image/jpeg"
	"log/slog"
	"testing"

	"edged/capture"
	"edged/capture/encode"
	"edged/capture/pattern"
)

// The test pattern by way of a camera's tap and JPEG: its clock can be read.
func TestSnapshot(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	b, _ := start(t)
	b.new = func(cfg capture.Config, log *slog.Logger) (capture.Source, error) {
		if cfg.ID == "gone" {
			return &leaver{left: true}, nil
		}
		return pattern.New(cfg, log)
	}
	if _, err := b.Apply([]capture.Config{{ID: "a", Source: "pattern:"}, {ID: "gone", Source: "pattern:"}}); err != nil {
		t.Fatal(err)
	}
	live(t, b, "a")
	for _, width := range []int{0, 320} {
		s, err := b.Snapshot(t.Context(), "a", width)
		if err != nil {
			t.Fatal(err)
		}
		img, err := jpeg.Decode(bytes.NewReader(s.JPEG))
		if err != nil {
			t.Fatal(err)
		}
		code, err := pattern.Read(img, img.Bounds())
		if d := code.Time.Sub(s.Captured); err != nil || d.Abs().Milliseconds() > 1 || width > 0 && img.Bounds().Size() != image.Pt(320, 180) {
			t.Errorf("width %d: %v, %v, %v from the time of capture", width, img.Bounds(), err, d)
		}
	}
	if _, err := b.Snapshot(t.Context(), "nowhere", 0); capture.CodeOf(err) != capture.CodeNotFound {
		t.Errorf("unknown: %v", err)
	}
	if _, err := b.Snapshot(t.Context(), "gone", 0); capture.CodeOf(err) != capture.CodeStalled {
		t.Errorf("offline: %v", err)
	}
}
