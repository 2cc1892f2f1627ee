package browser

import (
	"fmt"
	"image"
	"strings"
	"testing"
	"time"

	"edged/capture/pattern"
	"edged/internal/lab/rtsp"
)

const patternCamera = `  - id: demo
    source: "pattern:"
`

// patience is how long a test waits for what should take a moment.
const patience = 20 * time.Second

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// look waits for a condition and gives what the page knows of a camera.
func look(t testing.TB, p *Page, id, condition string) (c seen) {
	t.Helper()
	if err := p.Wait(camera(id)+condition, patience); err != nil {
		_ = p.Eval(&c, camera(id)) // to tell what there is instead
		t.Fatalf("%s%s: %v; it is %+v", id, condition, err, c)
	}
	must(t, p.Eval(&c, camera(id)))
	return c
}

// clean fails where the page complained: of its policy, or by an uncaught error.
func clean(t testing.TB, p *Page) {
	t.Helper()
	said, err := p.Said()
	must(t, err)
	for _, s := range said {
		if strings.HasPrefix(s, "uncaught:") || strings.Contains(s, "Content Security Policy") {
			t.Errorf("the page said: %s", s)
		}
	}
}

// readCode reads the pattern's code from a screenshot of a camera's video.
func readCode(t testing.TB, p *Page, id string) pattern.Code {
	t.Helper()
	video := fmt.Sprintf("[data-camera=%s] video", id)
	var last error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		img, _, err := p.Screenshot(video)
		must(t, err)
		var size struct{ W, H int }
		must(t, p.Eval(&size, fmt.Sprintf("(({videoWidth, videoHeight}) => ({W: videoWidth, H: videoHeight}))(document.querySelector('%s'))", video)))
		code, err := pattern.Read(img, contain(img.Bounds(), size.W, size.H))
		if err == nil {
			return code
		}
		last = err
	}
	t.Fatalf("no code in the picture: %v", last)
	return pattern.Code{}
}

// contain is where a picture of w × h is within r, as object-fit: contain
// places it.
func contain(r image.Rectangle, w, h int) image.Rectangle {
	fw, fh := r.Dx(), r.Dx()*h/w
	if fh > r.Dy() {
		fw, fh = r.Dy()*w/h, r.Dy()
	}
	at := r.Min.Add(image.Pt((r.Dx()-fw)/2, (r.Dy()-fh)/2))
	return image.Rectangle{Min: at, Max: at.Add(image.Pt(fw, fh))}
}

func TestPattern(t *testing.T) {
	b := startBox(t, patternCamera)
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	first := look(t, p, "demo", "?.frames > 30")
	code := readCode(t, p, "demo")
	if late := time.Since(code.Time); late < -2*time.Second || late > 2*time.Second {
		t.Errorf("the code on the screen was captured %v ago", late)
	}
	look(t, p, "demo", fmt.Sprintf("?.frames > %d", first.Frames+15))
	if again := readCode(t, p, "demo"); again.Frame <= code.Frame {
		t.Errorf("frame %d on the screen after frame %d", again.Frame, code.Frame)
	}
	c := look(t, p, "demo", "?.latencies.length > 4")
	if c.State != "live" || c.Opens != 1 || c.Restarts != 0 || c.Stats.Codec != "H264" {
		t.Errorf("the view is %+v", c)
	}
	var address string
	must(t, p.Eval(&address, "location.href"))
	if strings.Contains(address, "token") {
		t.Errorf("the token stays in the address: %s", address)
	}
	clean(t, p)
}

func TestKeys(t *testing.T) {
	b := startBox(t, patternCamera+`  - id: gone
    source: rtsp://127.0.0.1:1/none
`)
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	look(t, p, "demo", "?.frames > 5")
	look(t, p, "gone", "?.camera === 'offline'")
	must(t, p.Wait(`document.querySelector('[data-camera=gone]').textContent.includes('refused')`, patience))

	must(t, p.Eval(nil, `document.querySelector('[data-camera=gone] .picture').focus()`))
	must(t, p.Key("Enter"))
	must(t, p.Wait(`location.hash === '#/gone' && !document.querySelector('[data-camera=demo]').checkVisibility()`, patience))
	must(t, p.Key("ArrowRight"))
	must(t, p.Wait(`location.hash === '#/demo' && document.querySelector('[data-camera=demo]').checkVisibility()`, patience))
	must(t, p.Key("s"))
	must(t, p.Wait(`document.querySelector('[data-camera=demo] .statistics').textContent.includes('latency')`, patience))
	must(t, p.Key("Escape"))
	must(t, p.Wait(`location.hash === '#/' && document.querySelector('[data-camera=gone]').checkVisibility()`, patience))
	must(t, p.Key("s"))
	must(t, p.Wait(`!document.querySelector('[data-camera=demo] .statistics').checkVisibility()`, patience))
	if c := look(t, p, "demo", "?.state === 'live'"); c.Opens != 1 {
		t.Errorf("the view was opened %d times: the same picture belongs in the grid and alone", c.Opens)
	}
	clean(t, p)
}

func TestRTSP(t *testing.T) {
	server := rtsp.Start(t, rtsp.Options{User: "viewer", Password: "secret"})
	b := startBox(t, fmt.Sprintf(`  - {id: dock, source: %q, username: viewer, password: secret}
`, server.URL("/test")))
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	first := look(t, p, "dock", "?.frames > 20")
	look(t, p, "dock", fmt.Sprintf("?.frames > %d", first.Frames+20))
	img, _, err := p.Screenshot("[data-camera=dock] video")
	must(t, err)
	if n := colours(img); n < 4 {
		t.Errorf("the picture has %d colours", n)
	}

	server.Kill()
	look(t, p, "dock", "?.camera === 'offline'")
	must(t, p.Wait(`/^offline: rtsp:/.test(document.querySelector('[data-camera=dock] .notice').innerText)`, patience))
	server.Restart()
	gone := look(t, p, "dock", "?.camera === 'live'")
	back := look(t, p, "dock", fmt.Sprintf("?.shown > %d", gone.Shown+20))
	must(t, p.Wait(`!document.querySelector('[data-camera=dock] .notice').checkVisibility()`, patience))
	if back.Opens != 1 {
		t.Errorf("the camera came back, and the page needed %d connections: its view outlives the camera", back.Opens)
	}
	var text string
	must(t, p.Eval(&text, "document.body.innerText"))
	if strings.Contains(text, "secret") {
		t.Error("the page shows the camera's password")
	}
	clean(t, p)
}

// colours counts the colours, coarsely, of a picture.
func colours(img image.Image) int {
	found := map[[3]uint32]bool{}
	r := img.Bounds()
	for y := r.Min.Y; y < r.Max.Y; y += 8 {
		for x := r.Min.X; x < r.Max.X; x += 8 {
			red, green, blue, _ := img.At(x, y).RGBA()
			found[[3]uint32{red >> 14, green >> 14, blue >> 14}] = true
		}
	}
	return len(found)
}

// TestRestart: the box is killed and started again, and the page's pictures
// come back by themselves.
func TestRestart(t *testing.T) {
	b := startBox(t, patternCamera+`  - id: second
    source: "pattern:"
    video: {width: 640, height: 360, fps: 15, bitrate: 500000}
`)
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	for round := range 3 {
		opens := map[string]int{}
		for _, id := range []string{"demo", "second"} {
			opens[id] = look(t, p, id, "?.frames > 10").Opens
		}
		b.kill()
		must(t, p.Wait("!edged.connected", patience))
		began := time.Now()
		b.start()
		var back []time.Duration
		for id, n := range opens {
			look(t, p, id, fmt.Sprintf("?.opens > %d && %s.joinMs > 0", n, camera(id)))
			back = append(back, time.Since(began).Round(time.Millisecond))
		}
		t.Logf("round %d: pictures back %v after the box was started again", round+1, back)
	}
	clean(t, p)
}

// TestLoss: the network takes every packet for a while, though the link to
// the box stays: the picture comes back by an ICE restart, or after a longer
// break by a new connection.
func TestLoss(t *testing.T) {
	b := startBox(t, patternCamera)
	p := Open(t, Options{})
	must(t, p.Loss(0))
	must(t, p.Goto(b.url))
	look(t, p, "demo", "?.frames > 10")
	for _, broken := range []string{"?.restarts === 1", "?.opens > 1"} {
		must(t, p.Loss(100))
		look(t, p, "demo", broken)
		must(t, p.Loss(0))
		c := look(t, p, "demo", "?.state === 'live'")
		look(t, p, "demo", fmt.Sprintf("?.shown > %d", c.Shown+30))
		t.Logf("after %s: %d restarts, %d connections", broken, c.Restarts, c.Opens)
	}
	clean(t, p)
}

func TestToken(t *testing.T) {
	b := startBox(t, patternCamera)
	p := Open(t, Options{})
	page := "http://" + b.address + "/"
	for _, c := range []struct{ url, message string }{
		{page, "only to those who have a token"},
		{page + "?token=bad", "does not accept this token"},
	} {
		must(t, p.Goto(c.url))
		must(t, p.Wait("document.getElementById('token').checkVisibility()", patience))
		var text string
		must(t, p.Eval(&text, "document.getElementById('token').innerText"))
		if !strings.Contains(text, c.message) {
			t.Errorf("%s: the form says %q, want %q", c.url, text, c.message)
		}
	}
	must(t, p.Type(b.url)) // the form has the focus
	must(t, p.Key("Enter"))
	look(t, p, "demo", "?.frames > 5")
	must(t, p.Goto(page)) // the tab keeps its token
	look(t, p, "demo", "?.frames > 5")
	clean(t, p)
}

func TestPhone(t *testing.T) {
	b := startBox(t, patternCamera+`  - id: a-camera-with-a-very-long-name
    source: rtsp://127.0.0.1:1/a/path/that/is/long/enough/to/need/more/than/one/line/on/a/phone
`)
	p := Open(t, Options{Width: 360, Height: 740, Dark: true})
	must(t, p.Goto(b.url))
	look(t, p, "demo", "?.frames > 5")
	look(t, p, "a-camera-with-a-very-long-name", "?.camera === 'offline'")
	fits(t, p, "grid", 360)
	must(t, p.Key("s"))
	must(t, p.Wait(`document.querySelector('[data-camera=demo] .statistics').checkVisibility()`, patience))
	fits(t, p, "statistics", 360)
	must(t, p.Click("[data-camera=demo] .picture"))
	must(t, p.Wait("location.hash === '#/demo'", patience))
	fits(t, p, "one camera", 360)
	must(t, p.Goto("http://"+b.address+"/?token=bad"))
	must(t, p.Wait("document.getElementById('token').checkVisibility()", patience))
	fits(t, p, "form", 360)
}

// TestFirefox: a second browser, with other codecs.
func TestFirefox(t *testing.T) {
	b := startBox(t, patternCamera+fmt.Sprintf(`  - id: clip
    source: %q
`, "file:"+clip(t)))
	p := Open(t, Options{Kind: Firefox})
	must(t, p.Goto(b.url))
	first := look(t, p, "clip", "?.frames > 20")
	c := look(t, p, "clip", fmt.Sprintf("?.frames > %d", first.Frames+20))
	if c.State != "live" || c.Stats.Codec != "VP8" || c.Stats.Path == "" {
		t.Errorf("the view is %+v", c)
	}
	img, _, err := p.Screenshot("[data-camera=clip] video")
	must(t, err)
	if n := colours(img); n < 8 {
		t.Errorf("the picture has %d colours", n)
	}
	// Some builds list H.264 among their capabilities and leave it out of offers: the offer counts.
	var h264 bool
	must(t, p.Eval(&h264, `(async () => {
		const pc = new RTCPeerConnection();
		pc.addTransceiver('video', {direction: 'recvonly'});
		const offer = await pc.createOffer();
		pc.close();
		return offer.sdp.includes('H264/90000');
	})()`))
	t.Logf("Firefox %s, H.264: %v", p.Version, h264)
	if h264 {
		look(t, p, "demo", "?.frames > 5")
		return
	}
	if c := look(t, p, "demo", "?.state === 'refused'"); !strings.HasPrefix(c.Text, "this browser cannot decode H264; it offers VP8") {
		t.Errorf("the page says %q", c.Text)
	}
}

// TestFigures prints what a person would feel; they are no condition, since
// the machine may be busy.
func TestFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("measures for half a minute")
	}
	b := startBox(t, patternCamera)
	f, err := Measure(t.Context(), b.url, "demo", 20, 40)
	must(t, err)
	t.Log(f)
	if f.Joins != 20 || f.Samples < 40 || f.ClickP50 <= 0 || f.GlassP50 <= 0 {
		t.Errorf("figures without a foundation: %+v", f)
	}
}

// BenchmarkPicture: one operation is a click and its first frame.
func BenchmarkPicture(b *testing.B) {
	box := startBox(b, patternCamera)
	b.ResetTimer()
	f, err := Measure(b.Context(), box.url, "demo", b.N, 40)
	must(b, err)
	b.StopTimer()
	for unit, d := range map[string]time.Duration{
		"click-p50-ms": f.ClickP50, "click-p95-ms": f.ClickP95, "join-p50-ms": f.JoinP50, "join-p95-ms": f.JoinP95,
		"glass-p50-ms": f.GlassP50, "glass-p95-ms": f.GlassP95,
	} {
		b.ReportMetric(float64(d)/1e6, unit)
	}
}

// TestDriver: what goes wrong in the browser is an error that says what, and
// the page goes on.
func TestDriver(t *testing.T) {
	p := Open(t, Options{Width: 400, Height: 300})
	must(t, p.Goto("data:text/html,<p id=x>edged</p>"))
	_, _, missing := p.Screenshot("#y")
	var number int
	for _, c := range []struct {
		err  error
		want string
	}{
		{p.Eval(nil, "nobody.knows"), "nobody is not defined"},
		{p.Eval(&number, "'text'"), "cannot unmarshal"},
		{p.Wait("false", 50*time.Millisecond), "not within 50 ms"},
		{p.Click("#y"), "#y"},
		{p.Goto("http://127.0.0.1:1/"), "ERR_"},
		{missing, "no element #y"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", c.err, c.want)
		}
	}
	must(t, p.Goto("data:text/html,<body style='margin:0;background:red'><script>console.log('hello'); nobody.knows</script>"))
	img, png, err := p.Screenshot("")
	must(t, err)
	if r, g, b, _ := img.At(200, 150).RGBA(); r>>8 != 255 || g != 0 || b != 0 || img.Bounds().Dx() != 400 || len(png) == 0 {
		t.Errorf("a red page of 400 pixels shows %v, %v", img.At(200, 150), img.Bounds())
	}
	said, err := p.Said()
	must(t, err)
	if all := strings.Join(said, "\n"); !strings.Contains(all, "log: hello") || !strings.Contains(all, "uncaught: nobody is not defined") {
		t.Errorf("the page said %q", said)
	}
}

func TestQuantile(t *testing.T) {
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(20 - i)
	}
	for _, c := range []struct {
		values []float64
		q      float64
		want   time.Duration
	}{
		{nil, .5, 0},
		{[]float64{3}, .5, 3 * time.Millisecond},
		{[]float64{3}, .95, 3 * time.Millisecond},
		{[]float64{5, 1, 3}, .5, 3 * time.Millisecond},
		{twenty, .5, 10 * time.Millisecond},
		{twenty, .95, 19 * time.Millisecond},
	} {
		if got := quantile(c.values, c.q); got != c.want {
			t.Errorf("quantile(%v, %v) = %v, want %v", c.values, c.q, got, c.want)
		}
	}
}

func TestContain(t *testing.T) {
	for _, c := range []struct {
		r    image.Rectangle
		w, h int
		want image.Rectangle
	}{
		{image.Rect(0, 0, 1280, 720), 1280, 720, image.Rect(0, 0, 1280, 720)},
		{image.Rect(0, 0, 640, 720), 1280, 720, image.Rect(0, 180, 640, 540)},
		{image.Rect(0, 0, 1254, 680), 1280, 720, image.Rect(23, 0, 1231, 680)},
	} {
		if got := contain(c.r, c.w, c.h); got != c.want {
			t.Errorf("contain(%v, %d, %d) = %v, want %v", c.r, c.w, c.h, got, c.want)
		}
	}
}
