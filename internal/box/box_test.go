package box

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/forward"
	"edged/storage"

	"go.uber.org/goleak"
)

// start runs an SFU and a box whose cameras play a recording.
func start(t *testing.T) (*Box, *forward.SFU) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	identity, err := storage.OpenIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	sfu, err := forward.New(forward.Config{UDP: "127.0.0.1:0", MaxViewers: 10}, identity.Certificate, log)
	if err != nil {
		t.Fatal(err)
	}
	b := New(sfu, log)
	b.new = func(cfg capture.Config, _ *slog.Logger) (capture.Source, error) {
		if cfg.Source == "bad:" {
			return nil, errors.New("a bad source")
		}
		return capturetest.New(capturetest.Options{})
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- sfu.Run(ctx) }()
	<-sfu.Ready()
	go func() { ended <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		goleak.VerifyNone(t, ignore)
	})
	return b, sfu
}

func live(t *testing.T, b *Box, id string) *forward.Stream {
	t.Helper()
	for limit := time.Now().Add(10 * time.Second); time.Now().Before(limit); time.Sleep(5 * time.Millisecond) {
		if st, stream, ok := b.Camera(id); ok && st.Phase == capture.Live {
			return stream
		}
	}
	st, _, _ := b.Camera(id)
	t.Fatalf("camera %q is %s after 10 s", id, st.Phase)
	return nil
}

func TestApplyTouchesOnlyWhatDiffers(t *testing.T) {
	b, _ := start(t)
	a := capture.Config{ID: "a", Source: "test:"}
	c := capture.Config{ID: "c", Source: "test:"}
	var changes atomic.Int64
	cancel := b.Subscribe(func() { changes.Add(1) })
	done, err := b.Apply([]capture.Config{a, c})
	if err != nil || !slices.Equal(done.Added, []string{"a", "c"}) {
		t.Fatalf("%+v %v", done, err)
	}
	streamA, streamC := live(t, b, "a"), live(t, b, "c")
	if changes.Load() == 0 {
		t.Error("no change was told")
	}
	cancel()

	before, _, _ := b.Camera("a")
	c.Video.FPS = 10
	d := capture.Config{ID: "d", Source: "test:"}
	done, err = b.Apply([]capture.Config{d, c, a})
	if err != nil || !slices.Equal(done.Added, []string{"d"}) || !slices.Equal(done.Changed, []string{"c"}) || len(done.Removed) != 0 {
		t.Fatalf("%+v %v", done, err)
	}
	if got := b.IDs(); !slices.Equal(got, []string{"d", "c", "a"}) {
		t.Errorf("order %v", got)
	}
	if live(t, b, "a") != streamA || live(t, b, "c") == streamC {
		t.Error("the stream of the unchanged camera was replaced, or that of the changed one was not")
	}
	if after, _, _ := b.Camera("a"); after.Since != before.Since || after.Frames[0] < before.Frames[0] {
		t.Errorf("the unchanged camera started again: %+v", after)
	}

	done, err = b.Apply([]capture.Config{a})
	if err != nil || !slices.Equal(done.Removed, []string{"d", "c"}) {
		t.Fatalf("%+v %v", done, err)
	}
	if _, _, ok := b.Camera("c"); ok || len(b.States()) != 1 {
		t.Error("a removed camera is still there")
	}
}

func TestApplyChangesNothingOnAnError(t *testing.T) {
	b, _ := start(t)
	a := capture.Config{ID: "a", Source: "test:"}
	if _, err := b.Apply([]capture.Config{a}); err != nil {
		t.Fatal(err)
	}
	stream := live(t, b, "a")
	if _, err := b.Apply([]capture.Config{{ID: "new", Source: "test:"}, {ID: "x", Source: "bad:"}}); err == nil {
		t.Fatal("no error")
	}
	if got := b.IDs(); !slices.Equal(got, []string{"a"}) || live(t, b, "a") != stream {
		t.Errorf("cameras %v", got)
	}
}

func TestNewSource(t *testing.T) {
	for url, good := range map[string]bool{"pattern:": true, "rtsp://192.0.2.1/main": true, "v4l2:auto": true, "file:/clip.h264": true, "exec:rm": false, "": false} {
		src, err := NewSource(capture.Config{ID: "a", Source: url}, slog.New(slog.DiscardHandler))
		if (err == nil) != good || (src != nil) != good {
			t.Errorf("%q: %v %v", url, src, err)
		}
	}
}

// A camera whose pictures come without sound has a microphone, if it is to be
// heard.
func TestNewMicrophone(t *testing.T) {
	on := capture.AudioConfig{Enabled: true, Device: "hw:1,0"}
	for _, c := range []struct {
		source string
		audio  capture.AudioConfig
		want   bool
	}{
		{"v4l2:auto", on, true},
		{"v4l2:/dev/video0", capture.AudioConfig{Enabled: true}, true},
		{"v4l2:auto", capture.AudioConfig{Device: "hw:1,0"}, false},
		{"pattern:", on, false},
	} {
		m, err := newMicrophone(capture.Config{ID: "a", Source: c.source, Audio: c.audio}, slog.New(slog.DiscardHandler))
		if err != nil || (m != nil) != c.want {
			t.Errorf("%+v: %v, %v", c, m, err)
		}
	}
	if _, err := newMicrophone(capture.Config{Source: "v4l2:auto", Audio: capture.AudioConfig{Enabled: true, Device: "default"}}, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a microphone called default")
	}
}
