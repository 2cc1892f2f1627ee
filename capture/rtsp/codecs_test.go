package rtsp

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"edged/capture"
)

// A camera whose main codec not every viewer decodes says nothing before its
// lower layer is known, or until it is plain that this takes too long.
func TestSceneOfTwoCodecs(t *testing.T) {
	hevc := func(width, height int) []capture.Track {
		t := track(width, height)
		t[0].Codec = capture.H265
		return t
	}
	synctest.Test(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			low  func(*scene, *lowSink)
			want []string
		}{
			"known soon": {func(_ *scene, l *lowSink) { l.Describe(track(320, 180)); l.Frame(picture(7, true)) },
				[]string{"H265 1280×720, H264 320×180", "1* at 1000", "0 at 4000"}},
			"the same codec": {func(_ *scene, l *lowSink) { l.Describe(hevc(320, 180)) },
				[]string{"H265 1280×720, H265 320×180", "0 at 4000"}},
			"out of reach": {func(sc *scene, _ *lowSink) { sc.lowFailed(capture.Errorf(capture.CodeRefused, "no")) },
				[]string{"H265 1280×720, H265 0×0", "layer 1: refused", "0 at 4000"}},
			"no common codec": {func(sc *scene, _ *lowSink) { sc.lowFailed(capture.Errorf(capture.CodeCodec, "THEORA")) },
				[]string{"H265 1280×720", "layer 1: codec", "0 at 4000"}},
			"slow": {func(*scene, *lowSink) { time.Sleep(holdFor) },
				[]string{"H265 1280×720, H265 0×0", "0 at 4000"}},
		} {
			s := newScenario()
			sc := &scene{sink: s, low: &lowLayer{}, started: make(chan struct{})}
			main, low := mainSink{sc}, &lowSink{scene: sc, frames: func() {}}
			main.Describe(hevc(1280, 720))
			main.Frame(picture(1000, true))
			<-sc.started
			if got := s.take(); len(got) > 0 {
				t.Errorf("%s: %q before the lower layer is known", name, got)
			}
			c.low(sc, low)
			main.Frame(picture(4000, false))
			if got := s.take(); !slices.Equal(got, c.want) {
				t.Errorf("%s: %q, want %q", name, got, c.want)
			}
		}
	})
}

// twoMedia is a camera that offers its scene in H.265 and in H.264 under one
// URL; answer is what it says to the SETUP of the second.
func twoMedia(t *testing.T, answer string) func(*peer) {
	t.Helper()
	b, err := os.ReadFile("../file/testdata/clip.h265")
	if err != nil {
		t.Fatal(err)
	}
	hevc := capture.SplitAnnexB(nil, b)[:4] // VPS, SPS, PPS, IDR
	const text = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n" +
		"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H265/90000\r\na=control:track0\r\n" +
		"m=video 0 RTP/AVP 97\r\na=rtpmap:97 H264/90000\r\na=fmtp:97 packetization-mode=1\r\na=control:track1\r\n"
	play := func(p *peer) {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := uint32(0); ; i++ {
			var err error
			for j, n := range hevc {
				err = p.rtp(0, 96, j == len(hevc)-1, 1800*i, n)
			}
			if answer == "" {
				for j, n := range [][]byte{testSPS, testPPS, {0x65, 0x88, 1, 2, 3}} {
					err = p.rtp(2, 97, j == 2, 900_000+1800*i, n)
				}
			}
			if err != nil {
				return
			}
			<-tick.C
		}
	}
	second := func(p *peer, r asked) bool {
		if p.tracks == 1 && answer != "" {
			return says(answer)(p, r)
		}
		p.setup(r)
		return true
	}
	return camera{sdp: text, media: play, on: map[string]func(*peer, asked) bool{"SETUP": second}}.play
}

// The media of one session are layers of the camera.
func TestTwoMedia(t *testing.T) {
	for name, c := range map[string]struct {
		answer string
		sizes  []string
		faults int
	}{
		"both":        {"", []string{"H265 160×90", "H264 320×240"}, 0},
		"one at most": {"453 Not Enough Bandwidth", []string{"H265 160×90"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s := source(t, "rtsp://"+serve(t, twoMedia(t, c.answer))+"/#transport=tcp")
			sink := newScenario()
			ended := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { ended <- s.Run(ctx, sink) }()
			sink.until(t, "playing", func() bool {
				return sink.frames[0] > 20 && (c.faults > 0 || sink.frames[1] > 20)
			})
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if !slices.Equal(sink.sizes, c.sizes) || len(sink.faults) != c.faults {
				t.Errorf("%v, %v", sink.sizes, sink.faults)
			}
			for _, line := range sink.take() {
				if strings.HasPrefix(line, "track") {
					t.Error(line)
				}
			}
		})
	}
}
