package rtsp

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

func TestDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d demand
		d.await(t.Context()) // wanted until somebody says otherwise
		begin := time.Now()
		at := func(after time.Duration, wanted bool) {
			time.AfterFunc(after, func() { d.set(wanted) })
		}
		at(time.Second, false)
		at(5*time.Second, true) // in time
		at(20*time.Second, false)
		at(21*time.Second, false) // no news
		d.awaitEnd(t.Context(), 10*time.Second)
		if took := time.Since(begin); took != 30*time.Second {
			t.Errorf("given up after %v", took)
		}
		at(time.Hour, true)
		d.await(t.Context())
		if took := time.Since(begin); took != time.Hour+30*time.Second {
			t.Errorf("taken up after %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		d.awaitEnd(ctx, time.Second)
		d.set(false)
		d.await(ctx)
	})
}

// scenario is a sink that writes down what comes.
type scenario struct {
	mu     sync.Mutex
	lines  []string
	frames [2]int
	sizes  []string // of the newest description
	faults []error
	moved  chan struct{} // a token after each call
}

func newScenario() *scenario { return &scenario{moved: make(chan struct{}, 1)} }

func (s *scenario) note(format string, a ...any) {
	s.lines = append(s.lines, fmt.Sprintf(format, a...))
	select {
	case s.moved <- struct{}{}:
	default:
	}
}

func (s *scenario) Describe(tracks []capture.Track) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sizes = nil
	for i, t := range tracks {
		if t.Layer != i {
			s.note("track %d is of layer %d", i, t.Layer)
		}
		s.sizes = append(s.sizes, fmt.Sprintf("%s %d×%d", t.Codec, t.Width, t.Height))
	}
	s.note("%s", strings.Join(s.sizes, ", "))
}

func (s *scenario) Frame(f *capture.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frames[f.Track]++
	key := ""
	if f.Keyframe {
		key = "*"
	}
	s.note("%d%s at %d", f.Track, key, f.RTPTime)
}

func (s *scenario) LayerFailed(layer int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, err)
	s.note("layer %d: %s", layer, capture.CodeOf(err))
}

// until waits for a condition, which calls of the sink may make true.
func (s *scenario) until(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		s.mu.Lock()
		ok := done()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.moved:
		case <-deadline:
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Fatalf("not %s: %d frames, %v, %v", what, s.frames, s.sizes, s.faults)
		}
	}
}

func (s *scenario) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.lines
	s.lines = nil
	return lines
}

func picture(t uint32, keyframe bool) *capture.Frame {
	return &capture.Frame{RTPTime: t, Keyframe: keyframe, Payloads: [][]byte{{1}}}
}

func track(width, height int) []capture.Track {
	return []capture.Track{{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000, Fmtp: "x", Width: width, Height: height}}
}

func TestScene(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := newScenario(), lowLayer{}
		expect := func(what string, want ...string) {
			t.Helper()
			if got := s.take(); !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		newScene := func() *scene { return &scene{sink: s, low: &known, started: make(chan struct{})} }
		alive := 0
		newLow := func(sc *scene) *lowSink { return &lowSink{scene: sc, frames: func() { alive++ }} }

		sc := newScene()
		main, low := mainSink{sc}, newLow(sc)
		main.Describe(track(1280, 720))
		main.Frame(picture(5000, true))
		<-sc.started
		expect("the main layer alone", "H264 1280×720, H264 0×0", "0* at 5000")

		time.Sleep(10 * time.Millisecond)
		low.Describe(track(320, 180))
		low.Frame(picture(4_000_000_000, false))
		expect("nothing before the lower layer's keyframe")
		low.Frame(picture(4_000_003_000, true))
		expect("10 ms later", "H264 1280×720, H264 320×180", "1* at 5900")
		time.Sleep(10 * time.Millisecond)
		main.Frame(picture(8000, false))
		low.Frame(picture(4_000_006_000, false))
		low.Describe(track(640, 360))
		expect("together, and another size", "0 at 8000", "1 at 8900", "H264 1280×720, H264 640×360")
		if alive != 2 || low.lived() != 10*time.Millisecond {
			t.Errorf("alive %d times, for %v", alive, low.lived())
		}

		sc.lowFailed(capture.Errorf(capture.CodeRefused, "no"))
		low = newLow(sc)
		low.Describe(track(640, 360))
		low.Frame(picture(7, true))
		expect("a new session, no new description", "layer 1: refused", "1* at 8000")

		sc = newScene() // the source runs again
		main, low = mainSink{sc}, newLow(sc)
		main.Describe(track(1280, 720))
		main.Frame(picture(0, true))
		expect("what is known is described at once", "H264 1280×720, H264 640×360", "0* at 0")

		sc.lowFailed(capture.Errorf(capture.CodeCodec, "THEORA"))
		sc.lowFailed(capture.Errorf(capture.CodeCodec, "THEORA"))
		main.Describe(track(1920, 1080))
		expect("no common codec", "H264 1280×720", "layer 1: codec", "layer 1: codec", "H264 1920×1080")
		low.Describe(track(640, 360))
		low.Frame(picture(0, true))
		expect("set right", "H264 1920×1080, H264 640×360", "1* at 0")
	})
}

// film plays a picture every 20 ms, a keyframe every tenth, until its viewer
// is gone or stop is closed.
func film(sps []byte, stop <-chan struct{}) func(*peer) {
	return func(p *peer) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := uint32(0); ; i++ {
			var err error
			if i%10 == 0 {
				for _, unit := range [][]byte{sps, testPPS} {
					_ = p.rtp(0, 96, false, 1800*i, unit)
				}
				err = p.rtp(0, 96, true, 1800*i, []byte{0x65, 0x88, 1, 2, 3})
			} else {
				err = p.rtp(0, 96, true, 1800*i, []byte{0x41, 0x9a, 1, 2})
			}
			if err != nil {
				return
			}
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}
}

// both runs a camera with two URLs until end, before which its main layer
// must have gone on.
func both(t *testing.T, main, sub string, set func(*Source)) (out *scenario, end func()) {
	t.Helper()
	s, err := New(capture.Config{Source: "rtsp://" + main + "/main#transport=tcp", Sub: "rtsp://" + sub + "/sub#transport=tcp",
		Username: "u", Password: secret}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	s.limits.goodbye, s.sub.limits.goodbye = 50*time.Millisecond, 50*time.Millisecond
	if set != nil {
		set(s)
	}
	out = newScenario()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, out) }()
	return out, func() {
		out.mu.Lock()
		n := out.frames[0]
		out.mu.Unlock()
		out.until(t, "going on", func() bool { return out.frames[0] > n+3 })
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run does not end")
		}
		for _, err := range out.faults {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%v shows the password", err)
			}
		}
	}
}

func TestNewRefusesSub(t *testing.T) {
	for _, sub := range []string{"file:/x", "rtsp:///x", "rtsp://u:" + secret + "@h/x#transport=mail"} {
		_, err := New(capture.Config{Source: "rtsp://h/", Sub: sub}, slog.New(slog.DiscardHandler))
		if err == nil || !strings.HasPrefix(err.Error(), "sub: ") || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", sub, err)
		}
	}
}

func TestLowLayer(t *testing.T) {
	s, end := both(t, serve(t, well(film(testSPS, nil))), serve(t, well(film(otherSPS, nil))), func(s *Source) {
		s.sub.limits.silence = time.Second // shorter than the test takes
	})
	defer end()
	s.until(t, "both layers", func() bool { return s.frames[0] > 75 && s.frames[1] > 75 })
	s.mu.Lock()
	defer s.mu.Unlock() // before end
	if !slices.Equal(s.sizes, []string{"H264 320×240", "H264 160×96"}) || len(s.faults) > 0 {
		t.Errorf("%v, %v", s.sizes, s.faults)
	}
}

// The second URL fails in every way that it may; the first goes on.
func TestLowLayerFails(t *testing.T) {
	silent := func(p *peer) { _, _ = p.request() }
	theora := strings.NewReplacer("H264", "THEORA").Replace(h264SDP)
	for name, tt := range map[string]struct {
		sub   func(*peer)
		code  capture.Code
		sizes []string
	}{
		"refuses":   {describe("401 Unauthorized"), capture.CodeUnauthorized, []string{"H264 320×240", "H264 0×0"}},
		"not there": {describe("404 Not Found"), capture.CodeNotFound, []string{"H264 320×240", "H264 0×0"}},
		"codec":     {describe("200 OK", theora), capture.CodeCodec, []string{"H264 320×240"}},
		"hangs up":  {func(p *peer) { _ = p.Close() }, capture.CodeUnplugged, []string{"H264 320×240", "H264 0×0"}},
		"silent":    {well(silent), capture.CodeStalled, []string{"H264 320×240", "H264 0×0"}},
	} {
		t.Run(name, func(t *testing.T) {
			s, end := both(t, serve(t, well(film(testSPS, nil))), serve(t, tt.sub), func(s *Source) {
				s.sub.limits.silence = 100 * time.Millisecond
			})
			defer end()
			s.until(t, "a fault", func() bool { return len(s.faults) > 0 })
			s.mu.Lock()
			defer s.mu.Unlock()
			if got := capture.CodeOf(s.faults[0]); got != tt.code || !strings.Contains(s.faults[0].Error(), "/sub: ") {
				t.Errorf("%s: %v", got, s.faults[0])
			}
			if !slices.Equal(s.sizes, tt.sizes) {
				t.Errorf("described as %v", s.sizes)
			}
		})
	}
}

func TestLowLayerComesBack(t *testing.T) {
	var sessions atomic.Int32
	stop := make(chan struct{})
	sub := serve(t, func(p *peer) {
		if sessions.Add(1) == 1 {
			well(film(otherSPS, stop))(p)
			return
		}
		well(film(otherSPS, nil))(p)
	})
	s, end := both(t, serve(t, well(film(testSPS, nil))), sub, nil)
	defer end()
	s.until(t, "the lower layer", func() bool { return s.frames[1] > 3 })
	close(stop)
	s.until(t, "the end of it", func() bool { return len(s.faults) > 0 })
	n := 0
	s.until(t, "the lower layer again", func() bool { n = max(n, s.frames[1]); return s.frames[1] > 20 })
	lines := s.take()
	at := slices.Index(lines, "layer 1: unplugged")
	next := slices.IndexFunc(lines[max(at, 0):], func(l string) bool { return strings.HasPrefix(l, "1") })
	if at < 0 || next < 0 || !strings.HasPrefix(lines[at+next], "1* ") {
		t.Errorf("back with %q", lines[at:])
	}
}

// The second URL is open only while its layer is wanted.
func TestLowLayerOnDemand(t *testing.T) {
	opened, closed := make(chan net.Conn, 10), make(chan struct{}, 10)
	sub := serve(t, func(p *peer) {
		opened <- p.Conn
		well(film(otherSPS, nil))(p)
		closed <- struct{}{}
	})
	var source *Source
	s, end := both(t, serve(t, well(film(testSPS, nil))), sub, func(s *Source) {
		s.Demand(0, false) // the main one is always open
		s.Demand(1, false)
		s.sub.limits.linger = 0
		source = s
	})
	defer end()
	for range 2 {
		n := 0
		s.until(t, "the main layer alone", func() bool { n++; return s.frames[0] > 3 && n > 5 })
		select {
		case <-opened:
			t.Fatal("opened though nobody wants it")
		default:
		}
		source.Demand(1, true)
		before := -1
		s.until(t, "the lower layer", func() bool {
			if before < 0 {
				before = s.frames[1]
			}
			return s.frames[1] > before+3
		})
		source.Demand(1, false)
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("still open")
		}
		<-opened
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.faults) > 0 {
		t.Errorf("faults %v", s.faults)
	}
}
