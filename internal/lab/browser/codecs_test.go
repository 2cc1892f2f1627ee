package browser

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"edged/internal/lab/rtsp"
)

// film makes a recording of four seconds with a keyframe a second.
func film(t testing.TB, name string, encoder ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	args := []string{"-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=25", "-t", "4", "-pix_fmt", "yuv420p", "-g", "25"}
	if out, err := exec.Command("ffmpeg", append(append(args, encoder...), path)...).CombinedOutput(); err != nil {
		t.Fatalf("ffmpeg (scripts/setup installs it): %v: %s", err, out)
	}
	return path
}

// TestCodecs: Chromium plays what it can decode, from each kind of file that
// loops, and is told what it cannot.
func TestCodecs(t *testing.T) {
	x264 := []string{"-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-b:v", "600k"}
	x265 := []string{"-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:bframes=0:keyint=25", "-b:v", "600k"}
	aom := []string{"-c:v", "libaom-av1", "-usage", "realtime", "-cpu-used", "8", "-b:v", "600k"}
	vp9 := []string{"-c:v", "libvpx-vp9", "-deadline", "realtime", "-cpu-used", "8", "-b:v", "600k"}
	cameras := map[string]struct{ file, codec string }{
		"vp8":      {clip(t), "VP8"},
		"vp9":      {film(t, "vp9.ivf", vp9...), "VP9"},
		"vp9-mp4":  {film(t, "vp9.mp4", vp9...), "VP9"},
		"av1":      {film(t, "av1.ivf", aom...), "AV1"},
		"av1-mp4":  {film(t, "av1.mp4", aom...), "AV1"},
		"baseline": {film(t, "baseline.h264", append(x264, "-profile:v", "baseline")...), "H264"},
		"high":     {film(t, "high.mp4", append(x264, "-profile:v", "high", "-level", "4.1")...), "H264"}, // Chromium lists no such profile, nor the level
	}
	var config strings.Builder
	for id, c := range cameras {
		fmt.Fprintf(&config, "  - {id: %s, source: %q}\n", id, "file:"+c.file)
	}
	fmt.Fprintf(&config, "  - {id: hevc, source: %q}\n", "file:"+film(t, "hevc.h265", x265...))
	server := rtsp.Start(t, rtsp.Options{})
	fmt.Fprintf(&config, "  - {id: both, source: %q, sub: %q}\n", server.URL("/h265"), server.URL("/sub"))
	b := startBox(t, config.String())
	p := Open(t, Options{})
	for id, want := range cameras {
		// alone: eight decoders at a time would say more of the machine than of the codecs
		must(t, p.Goto(b.url+"#/"+id))
		c := look(t, p, id, "?.frames > 60")
		if c.Stats.Codec != want.codec || c.Opens != 1 {
			t.Errorf("%s: %d connections, codec %s", id, c.Opens, c.Stats.Codec)
		}
		img, _, err := p.Screenshot(fmt.Sprintf("[data-camera=%s] video", id))
		must(t, err)
		if n := colours(img); n < 8 {
			t.Errorf("%s: the picture has %d colours", id, n)
		}
	}
	must(t, p.Goto(b.url+"#/both"))
	if c := plays(t, p, "both", 160); c.Stats.Codec != "H264" || c.Opens != 1 {
		t.Errorf("of H.265 and H.264 the browser has %s, after %d connections", c.Stats.Codec, c.Opens)
	}
	must(t, p.Goto(b.url+"#/hevc"))
	if c := look(t, p, "hevc", "?.state === 'refused'"); !strings.HasPrefix(c.Text, "this browser cannot decode H265; it offers VP8") || !strings.Contains(c.Text, "H264") {
		t.Errorf("the page says %q", c.Text)
	}
	clean(t, p)
}
