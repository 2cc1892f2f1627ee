package capture_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

var spoken = capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}

// avSource sends pictures and sound from a goroutine each. The sound of a run
// is handed in later than the pictures are, and each run's clocks begin
// anywhere.
func avSource(ctx context.Context, sink capture.Sink, run int) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	m := capture.NewMux(sink)
	began := time.Now()
	side := func(sink capture.Sink, track capture.Track, every, delay time.Duration) {
		sink.Describe([]capture.Track{track})
		for i := 0; ctx.Err() == nil; i++ {
			at := began.Add(time.Duration(i) * every)
			time.Sleep(time.Until(at.Add(delay)))
			ticks := uint32(at.Sub(began).Microseconds() * int64(track.ClockRate) / 1e6)
			sink.Frame(&capture.Frame{RTPTime: uint32(run)*1e9 + ticks, Captured: at, Keyframe: true, Payloads: [][]byte{{1}}})
		}
	}
	var group sync.WaitGroup
	group.Go(func() { side(m.Pictures(), video, 40*time.Millisecond, 10*time.Millisecond) })
	group.Go(func() {
		side(m.Sound(), spoken, 20*time.Millisecond, 10*time.Millisecond+time.Duration(run)*50*time.Millisecond)
	})
	group.Wait()
	return capture.Errorf(capture.CodeUnplugged, "gone")
}

// Two goroutines make one camera. Over restarts the times of pictures and
// sound go on as they were captured, whatever way either has come.
func TestMux(t *testing.T) {
	src := &script{run: func(ctx context.Context, sink capture.Sink, n int) error {
		if n > 3 {
			<-ctx.Done()
			return nil
		}
		return avSource(ctx, sink, n)
	}}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		time.Sleep(time.Minute)
		synctest.Wait()
		last := s.described[len(s.described)-1]
		if len(last) != 2 || last[0] != video || last[1] != spoken {
			t.Fatalf("described %+v", s.described)
		}
		var first [2]*capture.Frame
		n := [2]int{}
		for i := range s.frames {
			f := &s.frames[i]
			n[f.Track]++
			if first[f.Track] == nil {
				first[f.Track] = f
				continue
			}
			since := f.Captured.Sub(first[f.Track].Captured).Seconds() * float64(last[f.Track].ClockRate)
			if d := float64(f.RTPTime-first[f.Track].RTPTime) - since; d < -10 || d > 10 {
				t.Fatalf("track %d: %v ticks off after %v", f.Track, d, f.Captured.Sub(first[f.Track].Captured))
			}
		}
		if n[0] < 140 || n[1] < 280 {
			t.Errorf("%d pictures, %d of sound", n[0], n[1])
		}
	})
}

// Sound waits for the pictures; what is wrong on either side is heard.
func TestMuxWaitsForPictures(t *testing.T) {
	src := &script{run: func(ctx context.Context, sink capture.Sink, _ int) error {
		m := capture.NewMux(sink)
		m.Sound().Describe([]capture.Track{spoken})
		m.Sound().Frame(&capture.Frame{Payloads: [][]byte{{1}}})
		m.Sound().SoundFailed(capture.Errorf(capture.CodeCodec, "AAC"))
		m.Pictures().LayerFailed(1, capture.Errorf(capture.CodeRefused, "no"))
		m.Pictures().Describe([]capture.Track{video, lower})
		m.Sound().Frame(&capture.Frame{Track: 1, Payloads: [][]byte{{1}}}) // there is one sound
		<-time.After(time.Second)
		m.Sound().Frame(&capture.Frame{Payloads: [][]byte{{1}}})
		<-ctx.Done()
		return nil
	}}
	supervised(t, src, func(c *capture.Camera, s *sink) {
		synctest.Wait()
		st := c.State()
		s.mu.Lock()
		if st.Sound != (capture.SoundFault{Code: capture.CodeCodec, Reason: "AAC"}) || len(st.Faults) != 1 || len(s.frames) != 0 {
			t.Errorf("sound %+v, faults %+v, %d frames", st.Sound, st.Faults, len(s.frames))
		}
		if len(s.described) != 1 || len(s.described[0]) != 3 {
			t.Errorf("described %+v", s.described)
		}
		s.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		if st = c.State(); st.Sound != (capture.SoundFault{}) || len(s.frames) != 1 || s.frames[0].Track != 2 {
			t.Errorf("sound %+v, frames %+v", st.Sound, s.frames)
		}
	})
}
