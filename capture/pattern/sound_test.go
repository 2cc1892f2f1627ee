package pattern

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/thesyncim/gopus"

	"edged/capture"
	"edged/capture/encode"
)

// Out of a decoder the beep comes at the start of each second, to the
// millisecond, over and over, and there is silence between.
func TestBeep(t *testing.T) {
	packets, err := encodeSecond()
	if err != nil {
		t.Fatal(err)
	}
	if len(packets) != 50 {
		t.Fatalf("%d packets a second", len(packets))
	}
	d, err := gopus.NewDecoder(gopus.DefaultDecoderConfig(soundRate, 1))
	if err != nil {
		t.Fatal(err)
	}
	var pcm []float32
	out := make([]float32, 5760)
	for _, p := range slices.Concat(packets, packets, packets) {
		n, err := d.Decode(p, out)
		if err != nil || n != soundFrame {
			t.Fatalf("%d samples, %v", n, err)
		}
		pcm = append(pcm, out[:n]...)
	}
	for second := range 3 {
		first, last, loudest := -1, 0, 0.0
		for i, v := range pcm[second*soundRate:][:soundRate] {
			a := math.Abs(float64(v))
			if loudest = max(loudest, a); a > beepLevel/4 {
				if last = i; first < 0 {
					first = i
				}
			}
		}
		const ms = soundRate / 1000
		if first < 0 || first > ms || last < 99*ms || last > 101*ms || loudest < 0.2 || loudest > 0.35 {
			t.Errorf("second %d: a beep from %.1f to %.1f ms, %.2f loud", second, float64(first)/ms, float64(last)/ms, loudest)
		}
	}
}

// avRecorder notes when flashes and beeps were captured.
type avRecorder struct {
	t        *testing.T
	tracks   []capture.Track
	sound    []time.Time
	times    []uint32
	pictures []time.Time
}

func (r *avRecorder) Describe(tracks []capture.Track) { r.tracks = slices.Clone(tracks) }

func (r *avRecorder) Frame(f *capture.Frame) {
	if r.tracks[f.Track].Kind == capture.Audio {
		r.sound, r.times = append(r.sound, f.Captured), append(r.times, f.RTPTime)
		return
	}
	r.pictures = append(r.pictures, f.Captured)
}

// Sound and picture share one clock: each beep has the time of a picture, and
// that picture is the first that flashes.
func TestSoundAndPictures(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(capture.Config{Source: "pattern:", Video: capture.VideoConfig{Width: 160, Height: 90, FPS: 25, Layers: 2}, Audio: capture.AudioConfig{Enabled: true}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second+time.Millisecond)
		defer cancel()
		r := avRecorder{t: t}
		if err := s.Run(ctx, &r); err != nil {
			t.Fatal(err)
		}
		if n := len(r.tracks); n != 3 || r.tracks[2] != soundTrack {
			t.Fatalf("tracks %+v", r.tracks)
		}
		if n := len(r.sound); n < 498 || n > 501 {
			t.Errorf("%d packets of sound in 10 s", n)
		}
		start := r.pictures[0]
		for i, at := range r.sound {
			if i > 0 && (at.Sub(r.sound[i-1]) != soundStep || r.times[i]-r.times[i-1] != soundFrame) {
				t.Fatalf("packet %d: %v, %d after the one before", i, at.Sub(r.sound[i-1]), r.times[i]-r.times[i-1])
			}
			if r.times[i]%soundRate == 0 && at.Sub(start)%time.Second != 0 { // the packet that the beep begins in
				t.Errorf("a beep %v after the first picture", at.Sub(start))
			}
		}
		interval := time.Second / 25
		for _, at := range r.pictures {
			since := at.Sub(start)
			if want := since%time.Second < 2*interval; flashes(since, interval) != want { // two pictures a second
				t.Errorf("a picture %v after the first flashes: %v", since, !want)
			}
		}
	})
}

// The flash is the cells beside the code, and leaves the code readable.
func TestFlash(t *testing.T) {
	p := newPicture(320, 180)
	for _, on := range []bool{true, false} {
		p.flash(on)
		img := p.draw(code)
		if got, err := Read(img, img.Rect); err != nil || got.Frame != code.Frame {
			t.Errorf("flash %v: %+v, %v", on, got, err)
		}
		for _, column := range []int{0, 1, gridColumns - 2, gridColumns - 1} {
			for row := range codeRows {
				if l := luma(img, cell(img.Rect, column, row)); (l == white) != on {
					t.Errorf("flash %v: cell %d, %d has %d", on, column, row, l)
				}
			}
		}
	}
}
