package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"testing"
	"time"

	"edged/capture"
	"edged/internal/lab/rtsp"
	"edged/internal/signaling"
)

// get asks the box as its page does.
func (b *box) get(path string) []byte {
	b.t.Helper()
	page, err := url.Parse(b.url)
	must(b.t, err)
	req, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, "http://"+b.address+path, nil)
	must(b.t, err)
	req.Header.Set("Authorization", "Bearer "+page.Query().Get("token"))
	req.Close = true // leaves no goroutine behind
	resp, err := http.DefaultClient.Do(req)
	must(b.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(b.t, err)
	if resp.StatusCode != http.StatusOK {
		b.t.Fatalf("%s: %s: %s", path, resp.Status, body)
	}
	return body
}

// TestLayers: cameras with two layers, made on the box or by the camera. The
// page plays the best, and the lower one when it is asked for; what nobody
// watches is spared.
func TestLayers(t *testing.T) {
	server := rtsp.Start(t, rtsp.Options{})
	b := startBox(t, fmt.Sprintf(`  - id: demo
    source: "pattern:"
    video: {width: 640, height: 360, layers: 2}
  - {id: dock, source: %q, sub: %q}
  - {id: odd, source: %q, sub: %q}
`, server.URL("/test"), server.URL("/sub"), server.URL("/test"), server.URL("/jpeg")))
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	for id, width := range map[string]int{"demo": 640, "dock": 320, "odd": 320} {
		c := look(t, p, id, "?.frames > 30")
		must(t, p.Wait(fmt.Sprintf("document.querySelector('[data-camera=%s] video').videoWidth === %d", id, width), patience))
		c = look(t, p, id, fmt.Sprintf("?.frames > %d", c.Frames+30))
		if c.Opens != 1 && id != "odd" { // whose second stream turns out to be none
			t.Errorf("%s: %d connections", id, c.Opens)
		}
	}
	readCode(t, p, "demo")
	expectLayers(t, b)

	for id, width := range map[string]int{"demo": 320, "dock": 160} {
		must(t, p.Eval(nil, fmt.Sprintf("location.hash = '#/%s'", id)))
		must(t, p.Wait(fmt.Sprintf("document.querySelector('[data-camera=%s] select').checkVisibility()", id), patience))
		must(t, p.Eval(nil, fmt.Sprintf("document.querySelector('[data-camera=%s] select').focus()", id)))
		must(t, p.Key("l"))
		c := plays(t, p, id, width)
		look(t, p, id, "?.data.events.some((e) => e.method === 'view.layer' && e.params.to === 1 && e.params.why === 'asked')")
		if c = look(t, p, id, fmt.Sprintf("?.frames > %d", c.Frames+30)); c.Opens != 1 || c.Quality != "low" {
			t.Errorf("%s: %d connections, quality %s", id, c.Opens, c.Quality)
		}
	}
	clean(t, p)

	frames := regexp.MustCompile(`edged_camera_frames_total\{camera="(demo|dock)",layer="1"\} ([0-9e+.]+)`)
	found := frames.FindAllSubmatch(b.get("/metrics"), -1)
	if len(found) != 2 {
		t.Errorf("%d cameras have a second layer in the metrics", len(found))
	}
	for _, m := range found {
		if n, err := strconv.ParseFloat(string(m[2]), 64); err != nil || n < 30 {
			t.Errorf("%s: %v frames of layer 1, %v", m[1], n, err)
		}
	}
}

// expectLayers waits until the list of cameras is as it should be.
func expectLayers(t *testing.T, b *box) {
	t.Helper()
	want := map[string]string{
		"demo": "[0 H264 640×360 1 H264 320×180 spared] []",
		"dock": "[0 H264 320×240 1 H264 160×120 spared] []",
		"odd":  "[0 H264 320×240] [1 codec]",
	}
	got := map[string]string{}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		var list struct {
			Cameras []signaling.Camera `json:"cameras"`
		}
		must(t, json.Unmarshal(b.get("/api/v1/cameras"), &list))
		good := len(list.Cameras) == len(want)
		for _, c := range list.Cameras {
			layers, faults := []string{}, []string{}
			slow := false
			for _, l := range c.Layers {
				text := fmt.Sprintf("%d %s %d×%d", l.Layer, l.Codec, l.Width, l.Height)
				if l.Spared {
					text += " spared"
				}
				layers = append(layers, text)
				slow = slow || l.FPS < 10 && !l.Spared
			}
			for _, f := range c.Faults {
				faults = append(faults, fmt.Sprintf("%d %s", f.Layer, f.Code))
			}
			got[c.ID] = fmt.Sprint(layers, " ", faults)
			good = good && got[c.ID] == want[c.ID] && !slow && c.State == capture.Live
		}
		if good {
			return
		}
		time.Sleep(100 * time.Millisecond) // the list has no news of figures
	}
	t.Errorf("cameras %v, want %v", got, want)
}
