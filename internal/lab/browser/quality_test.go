package browser

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"edged/internal/signaling"
)

// layered are two cameras; the first has two layers.
const layered = `  - id: demo
    source: "pattern:"
    video: {fps: 15, layers: 2}
  - id: plain
    source: "pattern:"
    video: {width: 640, height: 360, fps: 15, bitrate: 500000}
`

// plays waits until a camera's picture has a width, and is on its way.
func plays(t testing.TB, p *Page, id string, width int) seen {
	t.Helper()
	if err := p.Wait(fmt.Sprintf("document.querySelector('[data-camera=%s] video')?.videoWidth === %d", id, width), patience); err != nil {
		t.Fatalf("%s is not %d pixels wide: %v; it is %+v", id, width, err, look(t, p, id, "?.frames >= 0"))
	}
	c := look(t, p, id, "?.frames > 0")
	return look(t, p, id, fmt.Sprintf("?.frames > %d", c.Frames+5))
}

// TestQuality: in the grid a tile's size decides which layer it gets; alone,
// the person in front of it does, by the keyboard, for as long as the tab is.
func TestQuality(t *testing.T) {
	b := startBox(t, layered)
	for _, size := range []struct {
		name          string
		width, height int
		quality       string
		grid          int
	}{
		{"phone", 360, 740, "low", 640},
		{"desktop", 1600, 900, "auto", 1280},
	} {
		t.Run(size.name, func(t *testing.T) {
			p := Open(t, Options{Width: size.width, Height: size.height, Dark: size.name == "phone"})
			must(t, p.Goto(b.url))
			if c := plays(t, p, "demo", size.grid); c.Quality != size.quality {
				t.Errorf("the tile asks for %s, want %s", c.Quality, size.quality)
			}
			if c := look(t, p, "plain", "?.frames > 5"); c.Quality != "auto" {
				t.Errorf("the tile of a camera with one layer asks for %s", c.Quality)
			}
			must(t, p.Wait("![...document.querySelectorAll('select')].some((s) => s.checkVisibility())", patience))

			must(t, p.Click("[data-camera=demo] .picture"))
			must(t, p.Wait("document.querySelector('[data-camera=demo] select').checkVisibility()", patience))
			began := time.Now()
			plays(t, p, "demo", 1280) // auto, on a path that takes it
			t.Logf("large, and all its pixels there after %v", time.Since(began).Round(time.Millisecond))
			fits(t, p, "one camera", size.width)
			shoot(t, p, size.name)
			must(t, p.Eval(nil, "document.querySelector('[data-camera=demo] select').focus()"))
			must(t, p.Key("ArrowDown"))
			look(t, p, "demo", "?.quality === 'high'")
			plays(t, p, "demo", 1280)
			must(t, p.Key("ArrowRight"))
			look(t, p, "demo", "?.quality === 'low'")
			if c := plays(t, p, "demo", 640); c.Opens != 1 {
				t.Errorf("%d connections: a layer is no reason for another", c.Opens)
			}
			must(t, p.Wait("location.hash === '#/demo'", patience)) // the arrows are the control's while it has the focus

			must(t, p.Goto("about:blank"))
			must(t, p.Goto("http://"+b.address+"/#/demo"))
			must(t, p.Wait("document.querySelector('[data-camera=demo] select')?.value === 'low'", patience))
			plays(t, p, "demo", 640)
			must(t, p.Eval(nil, "document.querySelector('[data-camera=demo] select').focus()"))
			must(t, p.Key("ArrowUp"))
			plays(t, p, "demo", 1280)
			must(t, p.Eval(nil, "location.hash = '#/plain'")) // which has nothing to choose
			must(t, p.Wait("document.querySelector('[data-camera=plain]').checkVisibility()", patience))
			must(t, p.Wait("![...document.querySelectorAll('select')].some((s) => s.checkVisibility())", patience))
			clean(t, p)
		})
	}
}

// TestUnseen: what nobody sees costs no packets, and comes back over the
// connection that it had; after a minute it has none.
func TestUnseen(t *testing.T) {
	b := startBox(t, layered)
	p := Open(t, Options{Width: 360, Height: 740})
	must(t, p.Goto(b.url))
	plays(t, p, "demo", 640)
	for _, away := range []struct {
		name        string
		leave, back func() error
	}{
		{"another camera is large", func() error { return p.Eval(nil, "location.hash = '#/plain'") }, func() error { return p.Eval(nil, "location.hash = '#/'") }},
		{"another tab is in front", func() error { return p.Hide(true) }, func() error { return p.Hide(false) }},
	} {
		must(t, away.leave())
		rests(t, p, "demo")
		if n := viewers(t, b, "demo"); n != 1 {
			t.Errorf("%s: the box has %d viewers of a picture that rests", away.name, n)
		}
		began := time.Now()
		must(t, away.back())
		look(t, p, "demo", "?.quality === 'low' && "+camera("demo")+".state === 'live'")
		t.Logf("%s: back after %v", away.name, time.Since(began).Round(time.Millisecond))
		if c := plays(t, p, "demo", 640); c.Opens != 1 || c.Restarts != 0 || c.Quality != "low" {
			t.Errorf("%s, and came back: %d connections, %d restarts, quality %s", away.name, c.Opens, c.Restarts, c.Quality)
		}
	}

	must(t, p.Hide(true))
	must(t, p.Eval(nil, "{ const now = performance.now.bind(performance); performance.now = () => now() + 60_000; }"))
	look(t, p, "plain", "?.state === 'off'")
	look(t, p, "demo", "?.state === 'off'")
	began := time.Now()
	must(t, p.Hide(false))
	look(t, p, "demo", "?.opens === 2 && "+camera("demo")+".state === 'live'")
	t.Logf("after a minute: back after %v", time.Since(began).Round(time.Millisecond))
	if c := plays(t, p, "demo", 640); c.Opens != 2 {
		t.Errorf("%d connections after a minute out of sight, want a second one", c.Opens)
	}
	clean(t, p)
}

// rests waits until a picture's packets have stopped, and sees that they stay away.
func rests(t testing.TB, p *Page, id string) {
	t.Helper()
	c := look(t, p, id, "?.quality === 'off'")
	c = look(t, p, id, fmt.Sprintf("?.stats.at > %f && %s.stats.bitrate === 0", c.Stats.At, camera(id)))
	later := look(t, p, id, fmt.Sprintf("?.stats.at > %f", c.Stats.At+3000))
	if later.Stats.Packets != c.Stats.Packets || later.Restarts != 0 {
		t.Errorf("%s: %d packets in 3 s, and %d restarts, though nobody looks", id, later.Stats.Packets-c.Stats.Packets, later.Restarts)
	}
}

func viewers(t testing.TB, b *box, id string) int {
	t.Helper()
	var c signaling.Camera
	must(t, json.Unmarshal(b.get("/api/v1/cameras/"+id), &c))
	return c.Viewers
}

// fits fails where the page, or one of its controls, is wider than the window.
func fits(t testing.TB, p *Page, what string, width int) {
	t.Helper()
	var got, window float64
	must(t, p.Eval(&window, "innerWidth"))
	must(t, p.Eval(&got, `Math.max(document.documentElement.scrollWidth, ...[...document.querySelectorAll('button, select, .back')]
		.filter((e) => e.checkVisibility()).map((e) => e.getBoundingClientRect().right + 8))`))
	if got > window || window != float64(width) {
		t.Errorf("%s: %v pixels wide in a window of %v, made %d wide", what, got, window, width)
	}
}

// shoot keeps a screenshot where EDGED_TEST_SHOTS names a folder.
func shoot(t testing.TB, p *Page, name string) {
	t.Helper()
	dir := os.Getenv("EDGED_TEST_SHOTS")
	if dir == "" {
		return
	}
	_, png, err := p.Screenshot("")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600))
}
