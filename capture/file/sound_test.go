package file

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// band keeps both tracks, and why there is no sound.
type band struct {
	tracks []capture.Track
	frames [2][]capture.Frame
	sizes  []int // of the sound's packets
	why    error
}

func (b *band) Describe(tracks []capture.Track) { b.tracks = append(b.tracks, tracks...) }
func (b *band) SoundFailed(err error)           { b.why = err }
func (b *band) Frame(f *capture.Frame) {
	b.frames[f.Track] = append(b.frames[f.Track], *f)
	if f.Track == 1 {
		b.sizes = append(b.sizes, len(f.Payloads[0]))
	}
}

func listen(t *testing.T, name string, length time.Duration) *band {
	t.Helper()
	s, err := New(capture.Config{Source: "file:testdata/" + name, Audio: capture.AudioConfig{Enabled: true}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	b := &band{}
	if err := s.Run(ctx, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// The sound of a recording plays beside the picture, without a seam, and both
// have times of one clock.
func TestSound(t *testing.T) {
	for _, name := range []string{"opus.mp4", "opus-fragmented.mp4"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := listen(t, name, 2510*time.Millisecond)
				if len(b.tracks) != 2 || b.tracks[1] != (capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}) || b.why != nil {
					t.Fatalf("tracks %+v, %v", b.tracks, b.why)
				}
				if len(b.frames[0]) < 25 || len(b.frames[1]) < 124 || len(b.frames[1]) > 126 {
					t.Errorf("%d pictures, %d packets of sound in 2.5 s", len(b.frames[0]), len(b.frames[1]))
				}
				start := b.frames[0][0]
				for track, rate := range []float64{90000, 48000} {
					for i, f := range b.frames[track] {
						since := f.Captured.Sub(start.Captured).Seconds() * rate
						if d := float64(int32(f.RTPTime)) - since; d < -20 || d > 20 {
							t.Fatalf("track %d, frame %d: RTP time %d, captured after %v", track, i, f.RTPTime, f.Captured.Sub(start.Captured))
						}
						if i == 0 || track == 0 {
							continue
						}
						// ffmpeg gives the first packet of a fragmented file less time, for what a decoder leaves out
						step, seam := f.RTPTime-b.frames[1][i-1].RTPTime, name == "opus-fragmented.mp4" && i%50 <= 1
						if step != 960 && !(seam && step > 600 && step < 1300) {
							t.Errorf("packet %d: %d ticks after the one before", i, step)
						}
					}
				}
				for i := 60; i < len(b.sizes); i++ { // the second turn is the first again
					if b.sizes[i] != b.sizes[i-50] {
						t.Fatalf("packet %d has %d bytes, %d the first time", i, b.sizes[i], b.sizes[i-50])
					}
				}
			})
		})
	}
}

func TestNoSound(t *testing.T) {
	for name, want := range map[string]struct {
		code  capture.Code
		words string
	}{
		"clip.mp4":  {capture.CodeNotFound, "no sound"},
		"vp8.ivf":   {capture.CodeNotFound, "only an MP4"},
		"sound.mov": {capture.CodeCodec, "ulaw"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := listen(t, name, time.Second)
				if len(b.tracks) != 1 || len(b.frames[0]) < 9 || b.why == nil || capture.CodeOf(b.why) != want.code || !strings.Contains(b.why.Error(), want.words) {
					t.Errorf("tracks %+v, %d pictures, no sound because %v", b.tracks, len(b.frames[0]), b.why)
				}
			})
		})
	}
}
