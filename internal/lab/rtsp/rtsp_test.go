package rtsp_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"edged/capture"
	"edged/capture/rtsp"
	rtsplab "edged/internal/lab/rtsp"
)

// viewer is a sink that checks what it gets and tells how far it is.
type viewer struct {
	mu     sync.Mutex
	tracks []capture.Track // every description
	frames int
	keys   int
	faults []string
	last   capture.Frame
	moved  chan struct{} // a token after each frame
}

func newViewer() *viewer { return &viewer{moved: make(chan struct{}, 1)} }

func (v *viewer) Describe(t []capture.Track) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.tracks = append(v.tracks, t...)
}

func (v *viewer) Frame(f *capture.Frame) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.tracks) == 0 {
		v.faults = append(v.faults, "a frame before any description")
	}
	for i, p := range f.Payloads {
		if len(p) == 0 || len(p) > capture.MaxPayload {
			v.faults = append(v.faults, fmt.Sprintf("payload %d of %d bytes", i, len(p)))
		}
	}
	if v.frames > 0 {
		if d := int32(f.RTPTime - v.last.RTPTime); d <= 0 || d > 90000 {
			v.faults = append(v.faults, fmt.Sprintf("RTP time advances by %d", d))
		}
	}
	if d := time.Since(f.Captured); d < 0 || d > 10*time.Second {
		v.faults = append(v.faults, fmt.Sprintf("captured %s ago", d))
	}
	if f.Lost && v.frames > 0 { // the first may follow one that was under way
		v.faults = append(v.faults, "loss on loopback")
	}
	v.frames++
	if f.Keyframe {
		v.keys++
	}
	v.last = *f
	select {
	case v.moved <- struct{}{}:
	default:
	}
}

// until waits for a condition, which frames may make true.
func (v *viewer) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		v.mu.Lock()
		ok := done()
		v.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-v.moved:
		case <-deadline:
			v.mu.Lock()
			defer v.mu.Unlock()
			t.Fatalf("no %s; %d frames, %d keyframes, tracks %v", what, v.frames, v.keys, v.tracks)
		}
	}
}

func (v *viewer) check(t *testing.T) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range v.faults {
		t.Error(f)
	}
}

// play runs a source in the background; the returned function ends it and
// gives its error.
func play(t *testing.T, cfg capture.Config, sink capture.Sink) (stop func() error, ended <-chan error) {
	t.Helper()
	src, err := rtsp.New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- src.Run(ctx, sink) }()
	return func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			t.Fatal("Run does not end")
			return nil
		}
	}, done
}

func wait(t *testing.T, ended <-chan error) error {
	t.Helper()
	select {
	case err := <-ended:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("Run does not end")
		return nil
	}
}

func leaks(t *testing.T) {
	t.Cleanup(func() { goleak.VerifyNone(t) })
}

func TestFramesFlow(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	for _, path := range []string{
		"test", "test#transport=udp", "test#transport=tcp",
		"sets",
		"udp", "tcp", // auto finds out that the other transport is refused
	} {
		t.Run(path, func(t *testing.T) {
			v := newViewer()
			stop, _ := play(t, capture.Config{Source: server.URL(path)}, v)
			v.until(t, "30 frames with two keyframes", func() bool { return v.frames >= 30 && v.keys >= 2 })
			if err := stop(); err != nil {
				t.Error(err)
			}
			v.check(t)
			if len(v.tracks) != 1 {
				t.Fatalf("described as %v", v.tracks)
			}
			got := v.tracks[0]
			if got.Codec != capture.H264 || got.ClockRate != 90000 || got.Width != 320 || got.Height != 240 ||
				!strings.Contains(got.Fmtp, "profile-level-id=42") {
				t.Errorf("track %+v", got)
			}
		})
	}
}

// VLC's server knows UDP alone.
func TestVLC(t *testing.T) {
	leaks(t)
	server := rtsplab.StartVLC(t)
	for _, transport := range []string{"", "#transport=udp"} {
		v := newViewer()
		stop, _ := play(t, capture.Config{Source: server.URL("test" + transport)}, v)
		v.until(t, "30 frames with two keyframes", func() bool { return v.frames >= 30 && v.keys >= 2 })
		if err := stop(); err != nil {
			t.Error(err)
		}
		v.check(t)
		if got := v.tracks[0]; len(v.tracks) != 1 || got.Codec != capture.H264 || got.Width != 320 || got.Height != 240 {
			t.Errorf("tracks %+v", v.tracks)
		}
	}
	_, ended := play(t, capture.Config{Source: server.URL("test#transport=tcp")}, newViewer())
	expect(t, wait(t, ended), capture.CodeRefused, "461")
	_, ended = play(t, capture.Config{Source: server.URL("nowhere")}, newViewer())
	expect(t, wait(t, ended), capture.CodeNotFound, "no such path")
}

// Other codecs than H.264, over UDP and TCP.
func TestCodecsFlow(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	for path, want := range map[string]capture.Track{
		"h265":               {Codec: capture.H265, Fmtp: "profile-id=1;tier-flag=0;tx-mode=SRST"},
		"h265#transport=tcp": {Codec: capture.H265, Fmtp: "profile-id=1;tier-flag=0;tx-mode=SRST"},
		"vp8":                {Codec: capture.VP8},
		"vp9":                {Codec: capture.VP9, Fmtp: "profile-id=0"},
	} {
		t.Run(path, func(t *testing.T) {
			v := newViewer()
			stop, _ := play(t, capture.Config{Source: server.URL(path)}, v)
			v.until(t, "30 frames with two keyframes", func() bool { return v.frames >= 30 && v.keys >= 2 })
			if err := stop(); err != nil {
				t.Error(err)
			}
			v.check(t)
			if len(v.tracks) != 1 {
				t.Fatalf("described as %v", v.tracks)
			}
			got := v.tracks[0]
			if got.Codec != want.Codec || got.ClockRate != 90000 || got.Width != 320 || got.Height != 240 || !strings.HasSuffix(got.Fmtp, want.Fmtp) {
				t.Errorf("track %+v", got)
			}
		})
	}
}

func TestResolutionChangesInBand(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	v := newViewer()
	stop, _ := play(t, capture.Config{Source: server.URL("resize#transport=tcp")}, v)
	v.until(t, "frames after the change", func() bool { return len(v.tracks) == 2 && v.frames > 60 })
	if err := stop(); err != nil {
		t.Error(err)
	}
	v.check(t)
	for i, want := range [][2]int{{320, 240}, {480, 272}} {
		if got := v.tracks[i]; got.Width != want[0] || got.Height != want[1] {
			t.Errorf("track %d is %+v, want %v", i, got, want)
		}
	}
}

func TestDigestCredentials(t *testing.T) {
	leaks(t)
	const secret = "corn/flakes@7"
	server := rtsplab.Start(t, rtsplab.Options{User: "camera", Password: secret})
	t.Run("right", func(t *testing.T) {
		v := newViewer()
		stop, _ := play(t, capture.Config{Source: server.URL("test"), Username: "camera", Password: secret}, v)
		v.until(t, "frame", func() bool { return v.frames > 0 })
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	t.Run("right, in the URL", func(t *testing.T) {
		v := newViewer()
		url := strings.Replace(server.URL("test"), "//", "//camera:corn%2Fflakes%407@", 1)
		stop, _ := play(t, capture.Config{Source: url}, v)
		v.until(t, "frame", func() bool { return v.frames > 0 })
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for name, cfg := range map[string]capture.Config{
		"wrong": {Username: "camera", Password: "wrong-password"},
		"none":  {},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Source = server.URL("test")
			_, ended := play(t, cfg, newViewer())
			expect(t, wait(t, ended), capture.CodeUnauthorized, server.URL("test"))
		})
	}
}

// expect checks that an error has its code, names the camera and keeps
// secrets.
func expect(t *testing.T, err error, code capture.Code, mention string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	t.Log(err)
	if got := capture.CodeOf(err); got != code {
		t.Errorf("code %q, want %q", got, code)
	}
	if !strings.Contains(err.Error(), mention) {
		t.Errorf("%q does not mention %q", err, mention)
	}
	if strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("%q shows the password", err)
	}
}

func TestWhatTheCameraLacks(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	for path, want := range map[string]struct {
		code    capture.Code
		mention string
	}{
		"nowhere":           {capture.CodeNotFound, "no such path"},
		"jpeg":              {capture.CodeCodec, "video JPEG"},
		"tcp#transport=udp": {capture.CodeRefused, "461"},
		"udp#transport=tcp": {capture.CodeRefused, "461"},
	} {
		t.Run(path, func(t *testing.T) {
			_, ended := play(t, capture.Config{Source: server.URL(path)}, newViewer())
			expect(t, wait(t, ended), want.code, want.mention)
		})
	}
}

func TestServerKilledAndBack(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	for _, path := range []string{"test", "test#transport=tcp"} {
		t.Run(path, func(t *testing.T) {
			v := newViewer()
			cfg := capture.Config{Source: server.URL(path)}
			_, ended := play(t, cfg, v)
			v.until(t, "frame", func() bool { return v.frames > 0 })
			server.Kill()
			expect(t, wait(t, ended), capture.CodeUnplugged, server.URL("test"))

			_, ended = play(t, cfg, v)
			expect(t, wait(t, ended), capture.CodeRefused, server.URL("test"))

			server.Restart()
			again := newViewer()
			stop, _ := play(t, cfg, again)
			again.until(t, "keyframe", func() bool { return again.keys > 0 })
			if err := stop(); err != nil {
				t.Error(err)
			}
			again.check(t)
		})
	}
}

// Under the supervisor a killed server shows as offline with its reason, and
// the stream goes on when the server is back, on the same timeline.
func TestSupervisedCameraComesBack(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	log := slog.New(slog.DiscardHandler)
	cfg := capture.Config{ID: "dock", Source: server.URL("test")}
	src, err := rtsp.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	v := newViewer()
	camera, err := capture.New(cfg, src, v, log)
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{}, 1)
	camera.OnChange = func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- camera.Run(ctx) }()
	until := func(want capture.Phase, codes ...capture.Code) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			s := camera.State()
			if s.Phase == want && (len(codes) == 0 || slices.Contains(codes, s.Code)) {
				return
			}
			select {
			case <-changed:
			case <-deadline:
				t.Fatalf("not %s %v: %+v", want, codes, s)
			}
		}
	}
	until(capture.Live)
	server.Kill()
	until(capture.Offline, capture.CodeUnplugged)
	until(capture.Offline, capture.CodeRefused)
	if s := camera.State(); !strings.Contains(s.Reason, server.URL("test")+": connection refused") {
		t.Errorf("reason %q", s.Reason)
	}
	v.mu.Lock()
	frames, keys := v.frames, v.keys
	v.faults = nil // what the outage did to the timeline is checked by the supervisor's own tests
	v.mu.Unlock()
	server.Restart()
	until(capture.Live)
	v.until(t, "keyframe after the restart", func() bool { return v.keys > keys && v.frames > frames })
	cancel()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
}
