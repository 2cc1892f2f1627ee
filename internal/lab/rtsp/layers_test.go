package rtsp_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/rtsp"
	rtsplab "edged/internal/lab/rtsp"
)

// gallery is the sink of a camera with layers: what came of each.
type gallery struct {
	mu     sync.Mutex
	frames [capture.MaxLayers]int
	fresh  [capture.MaxLayers]bool // nothing came since it was set
	faults []string
	last   [capture.MaxLayers]capture.Frame
	at     [capture.MaxLayers]time.Time
	moved  chan struct{} // a token after each frame
}

func (*gallery) Describe([]capture.Track) {}

func (g *gallery) Frame(f *capture.Frame) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := f.Track
	if g.fresh[n] && !f.Keyframe {
		g.faults = append(g.faults, fmt.Sprintf("layer %d begins without a keyframe", n))
	}
	if d := int32(f.RTPTime - g.last[n].RTPTime); g.frames[n] > 0 && d <= 0 {
		g.faults = append(g.faults, fmt.Sprintf("layer %d: RTP time advances by %d", n, d))
	}
	g.fresh[n] = false
	g.frames[n]++
	g.last[n], g.at[n] = *f, time.Now()
	select {
	case g.moved <- struct{}{}:
	default:
	}
}

// pause notes that the second layer has to begin anew, and how far the main
// one is.
func (g *gallery) pause() (frames int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.fresh[1] = true
	return g.frames[0]
}

// apart is by how much the RTP times of the two layers' newest frames differ
// from the times of their arrival.
func (g *gallery) apart() time.Duration {
	ticks := int32(g.last[1].RTPTime - g.last[0].RTPTime)
	return (time.Duration(ticks)*time.Second/90000 - g.at[1].Sub(g.at[0])).Abs()
}

// A camera with a main and a second stream, on servers of their own: the
// second dies and comes back, is not wanted and wanted again; the main one
// notices nothing.
func TestMainAndSub(t *testing.T) {
	leaks(t)
	main, second := rtsplab.Start(t, rtsplab.Options{}), rtsplab.Start(t, rtsplab.Options{})
	cfg := capture.Config{ID: "dock", Source: main.URL("test"), Sub: second.URL("sub")}
	log := slog.New(slog.DiscardHandler)
	src, err := rtsp.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	g := &gallery{moved: make(chan struct{}, 1), fresh: [capture.MaxLayers]bool{1: true}}
	camera, err := capture.New(cfg, src, g, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- camera.Run(ctx) }()
	until := func(what string, done func(capture.State) bool) {
		t.Helper()
		deadline := time.After(30 * time.Second)
		for {
			st := camera.State()
			g.mu.Lock()
			ok := done(st)
			g.mu.Unlock()
			if ok {
				return
			}
			select {
			case <-g.moved:
			case <-deadline:
				t.Fatalf("not %s: %+v", what, st)
			}
		}
	}
	flows := func(what string) {
		t.Helper()
		g.mu.Lock()
		before := g.frames
		g.mu.Unlock()
		until(what, func(st capture.State) bool {
			return g.frames[0] >= before[0]+50 && g.frames[1] >= before[1]+50 && len(st.Faults) == 0
		})
		g.mu.Lock()
		defer g.mu.Unlock()
		if d := g.apart(); d > time.Second {
			t.Errorf("%s: the layers are %v apart", what, d)
		}
	}

	flows("both layers")
	st := camera.State()
	if len(st.Tracks) != 2 || st.Tracks[0].Width != 320 || st.Tracks[1].Width != 160 || st.Tracks[1].Height != 120 || st.Tracks[1].Layer != 1 {
		t.Errorf("tracks %+v", st.Tracks)
	}

	second.Kill()
	until("the second stream's fault", func(st capture.State) bool {
		return len(st.Faults) == 1 && st.Faults[0].Code == capture.CodeRefused
	})
	if f := camera.State().Faults[0]; f.Layer != 1 || !strings.HasPrefix(f.Reason, second.URL("sub")+": ") {
		t.Errorf("%+v", f)
	}
	alone := g.pause()
	until("the main stream alone", func(st capture.State) bool { return g.frames[0] > alone+50 && st.Phase == capture.Live })
	second.Restart()
	flows("both layers after the restart")

	camera.Demand(1, false)
	until("the second stream closed", func(st capture.State) bool {
		return st.Unwanted[1] && time.Since(g.at[1]) > time.Second && g.frames[0] > 0
	})
	g.pause()
	camera.Demand(1, true)
	flows("both layers when wanted again")

	cancel()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
	for _, f := range g.faults {
		t.Error(f)
	}
	if st := camera.State(); len(st.Restarts) > 0 || st.Dropped > 0 {
		t.Errorf("the main stream was disturbed: %v, %d dropped", st.Restarts, st.Dropped)
	}
}

// A second stream in another codec leaves the camera with one layer, and says
// why.
func TestSubOfAnotherCodec(t *testing.T) {
	leaks(t)
	server := rtsplab.Start(t, rtsplab.Options{})
	cfg := capture.Config{ID: "dock", Source: server.URL("test"), Sub: server.URL("jpeg")}
	log := slog.New(slog.DiscardHandler)
	src, err := rtsp.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	v := newViewer()
	camera, err := capture.New(cfg, src, v, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- camera.Run(ctx) }()
	v.until(t, "fault", func() bool { return len(camera.State().Faults) == 1 })
	st := camera.State()
	if f := st.Faults[0]; f.Code != capture.CodeCodec || !strings.Contains(f.Reason, "video JPEG") || len(st.Tracks) != 1 || st.Phase != capture.Live {
		t.Errorf("%+v", st)
	}
	v.mu.Lock()
	frames := v.frames
	v.mu.Unlock()
	v.until(t, "frames of the main stream", func() bool { return v.frames > frames+25 })
	cancel()
	if err := wait(t, ended); err != nil {
		t.Error(err)
	}
	v.check(t)
}
