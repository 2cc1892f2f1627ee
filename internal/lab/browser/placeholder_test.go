package browser

import (
	"fmt"
	"image"
	"testing"

	"edged/internal/lab/rtsp"
)

// TestPlaceholder: a camera goes away, and the page that shows it has a
// picture that says so, on the same connection, until the camera is back.
func TestPlaceholder(t *testing.T) {
	server := rtsp.Start(t, rtsp.Options{})
	b := startBox(t, fmt.Sprintf(`  - {id: dock, source: %q, placeholder: {after: 2s}}
`, server.URL("/test")))
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	look(t, p, "dock", "?.frames > 20")
	const width = "document.querySelector('[data-camera=dock] video').videoWidth"
	var own int
	must(t, p.Eval(&own, width))
	if own == 640 {
		t.Fatal("the camera's picture is as wide as the placeholder's: the test tells nothing")
	}
	server.Kill()
	must(t, p.Wait(width+" === 640", patience))
	img, _, err := p.Screenshot("[data-camera=dock] video")
	must(t, err)
	if text, ground := shades(img); text < .005 || ground < .7 {
		t.Errorf("%.3f of the picture is text, %.3f ground", text, ground)
	}
	server.Restart()
	must(t, p.Wait(fmt.Sprintf("%s === %d", width, own), patience))
	gone := look(t, p, "dock", "?.camera === 'live'")
	if back := look(t, p, "dock", fmt.Sprintf("?.shown > %d", gone.Shown+20)); back.Opens != 1 {
		t.Errorf("the page needed %d connections", back.Opens)
	}
	clean(t, p)
}

// shades are the shares of bright and of dark pixels.
func shades(img image.Image) (bright, dark float64) {
	r := img.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			switch red, green, blue, _ := img.At(x, y).RGBA(); {
			case min(red, green, blue) > 0xa000:
				bright++
			case max(red, green, blue) < 0x4000:
				dark++
			}
		}
	}
	n := float64(r.Dx() * r.Dy())
	return bright / n, dark / n
}
