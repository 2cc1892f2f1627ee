package capture_test

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
	"edged/capture/capturetest"
)

func TestParseMicrophone(t *testing.T) {
	for name, want := range map[string][2]string{
		"auto": {}, "hw:0,0": {"0", "0"}, "hw:10,03": {"10", "3"}, "hw:Webcam_1,0": {"Webcam_1", "0"}, "hw:PCH,00": {"PCH", "0"},
	} {
		card, device, err := capture.ParseMicrophone(name)
		if err != nil || [2]string{card, device} != want {
			t.Errorf("%s: %q, %q, %v", name, card, device, err)
		}
	}
	for _, name := range []string{"", "hw:0", "hw:0,", "hw:100,0", "hw:0,0,0", "plughw:0,0", "hw:../x,0", "hw:0,-1", "default"} {
		if _, _, err := capture.ParseMicrophone(name); err == nil {
			t.Errorf("%q is taken", name)
		}
	}
}

// speech is a microphone that fails, speaks, and then panics.
type speech struct {
	packets int
	stopped bool
}

func (s *speech) Run(ctx context.Context, sink capture.SoundSink) {
	defer func() { s.stopped = true }()
	sink.Describe([]capture.Track{{Kind: capture.Audio, Codec: capture.Opus, ClockRate: 48000}})
	sink.SoundFailed(capture.Errorf(capture.CodeBusy, "busy"))
	time.Sleep(time.Second)
	f := capture.Frame{Keyframe: true, Payloads: [][]byte{{1, 2, 3}}}
	for range s.packets {
		f.Captured = time.Now()
		sink.Frame(&f)
		f.RTPTime += 960
		time.Sleep(20 * time.Millisecond)
	}
	if ctx.Err() == nil {
		panic("a bug")
	}
}

// heard counts the frames of each track.
type heard struct {
	mu     sync.Mutex
	tracks []capture.Track
	frames [2]int
}

func (h *heard) Describe(tracks []capture.Track) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tracks = slices.Clone(tracks)
}

func (h *heard) Frame(f *capture.Frame) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frames[f.Track]++
}

// A microphone beside a source adds a track; its trouble, of any kind, leaves
// the pictures alone, and it ends with the camera.
func TestMicrophoneBesideSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, err := capturetest.New(capturetest.Options{})
		if err != nil {
			t.Fatal(err)
		}
		h := &heard{}
		c, err := capture.New(capture.Config{ID: "a", Source: "v4l2:auto"}, src, h, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		mic := &speech{packets: 100}
		c.Microphone = mic
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = c.Run(ctx) })
		time.Sleep(500 * time.Millisecond)
		if st := c.State(); st.Sound.Code != capture.CodeBusy || st.Phase != capture.Live || len(st.Tracks) != 2 {
			t.Errorf("before: %+v", st)
		}
		time.Sleep(time.Second)
		if st := c.State(); st.Sound.Code != "" || st.Frames[1] == 0 {
			t.Errorf("while it speaks: %+v", st)
		}
		time.Sleep(3 * time.Second)
		if st := c.State(); st.Sound.Code != capture.CodeProtocol || st.Phase != capture.Live || src.Runs() != 1 {
			t.Errorf("after a panic: %+v, %d runs", st, src.Runs())
		}
		cancel()
		running.Wait()
		h.mu.Lock()
		defer h.mu.Unlock()
		if !mic.stopped || h.frames[0] < 120 || h.frames[1] < 99 || len(h.tracks) != 2 || h.tracks[1].Kind != capture.Audio {
			t.Errorf("stopped %v, %d pictures, %d packets, %+v", mic.stopped, h.frames[0], h.frames[1], h.tracks)
		}
	})
}
