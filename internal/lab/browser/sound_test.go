package browser

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

const soundingCamera = `  - id: demo
    source: "pattern:"
    video: {width: 640, height: 360, fps: 30, bitrate: 800000, layers: 2}
    audio: {enabled: true}
  - id: plain
    source: "pattern:"
    video: {width: 640, height: 360, fps: 15, bitrate: 500000}
`

// watchAndListen notes, by the page's clock in ms, when flashes are shown and
// when beeps are played: the former by the time that a frame is due on the
// screen, the latter by the samples that the sound's graph has just taken.
const watchAndListen = `(async () => {
	const video = document.querySelector('[data-camera=demo] video');
	const seen = window.seen = { flashes: [], beeps: [] };
	const canvas = Object.assign(document.createElement('canvas'), { width: 32, height: 18 });
	const canvas2d = canvas.getContext('2d', { willReadFrequently: true });
	let bright = true;
	const look = (now, { expectedDisplayTime }) => {
		canvas2d.drawImage(video, 0, 0, 32, 18);
		const is = canvas2d.getImageData(0, 1, 1, 1).data[0] > 128;
		if (is && !bright) seen.flashes.push(expectedDisplayTime);
		bright = is;
		video.requestVideoFrameCallback(look);
	};
	video.requestVideoFrameCallback(look);
	const context = new AudioContext();
	await context.resume();
	const analyser = Object.assign(context.createAnalyser(), { fftSize: 8192 });
	context.createMediaStreamSource(video.srcObject).connect(analyser);
	const samples = new Float32Array(8192);
	setInterval(() => {
		const now = performance.now();
		analyser.getFloatTimeDomainData(samples);
		const first = samples.findIndex((v) => Math.abs(v) > 0.05);
		if (first < 1000) return; // silent, or in the middle of one
		const at = now - (samples.length - first) / context.sampleRate * 1000;
		if (at - (seen.beeps.at(-1) ?? -1000) > 500) seen.beeps.push(at);
	}, 10);
	return context.state;
})()`

// TestSound: the page plays no sound until somebody asks for it, by mouse or
// keyboard; then it is in step with the picture, also after a change of layer.
func TestSound(t *testing.T) {
	b := startBox(t, soundingCamera)
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	look(t, p, "demo", "?.frames > 30")
	control := "document.querySelector('[data-camera=demo] .sound')"
	muted := "document.querySelector('[data-camera=demo] video').muted"
	must(t, p.Wait(control+".checkVisibility() && "+muted+" && "+control+".getAttribute('aria-pressed') === 'false'", patience))
	must(t, p.Wait("!document.querySelector('[data-camera=plain] .sound').checkVisibility()", patience))
	must(t, p.Wait("document.querySelector('[data-camera=demo] video').srcObject.getAudioTracks().length === 0", patience)) // nor is it sent
	var name string
	must(t, p.Eval(&name, control+".getAttribute('aria-label')"))
	if name != "Sound of demo" {
		t.Errorf("the control is called %q", name)
	}
	must(t, p.Click("[data-camera=demo] .sound"))
	must(t, p.Wait("!"+muted+" && "+control+".getAttribute('aria-pressed') === 'true'", patience))
	must(t, p.Eval(nil, control+".focus()"))
	must(t, p.Key("Enter"))
	must(t, p.Wait(muted, patience))
	must(t, p.Eval(nil, "location.hash = '#/demo'"))
	must(t, p.Wait("document.querySelector('.chosen') !== null", patience))
	must(t, p.Key("m"))
	must(t, p.Wait("!"+muted, patience))

	must(t, p.Wait("document.querySelector('[data-camera=demo] video').srcObject?.getAudioTracks().length === 1", patience))
	var state string
	must(t, p.Eval(&state, watchAndListen))
	if state != "running" {
		t.Fatalf("the sound's graph is %s", state)
	}
	inStep(t, p, "auto")
	c := look(t, p, "demo", "?.latencies.length > 4")
	slices.Sort(c.Latencies)
	t.Logf("latency of the picture: median %.0f ms", c.Latencies[len(c.Latencies)/2])
	must(t, p.Eval(nil, "document.querySelector('[data-camera=demo] select').focus()"))
	must(t, p.Key("l"))
	plays(t, p, "demo", 320)
	inStep(t, p, "low")
	if c := look(t, p, "demo", "?.frames > 0"); c.Opens != 4 || c.Restarts != 0 {
		t.Errorf("%d connections, %d restarts", c.Opens, c.Restarts)
	}
	clean(t, p)
}

// inStep measures how far sound and picture are apart, until the median of
// ten beeps is as near as people cannot tell (ITU-R BT.1359: 45 ms early to
// 125 ms late): Chromium takes its time to let the picture wait for the
// sound, whose jitter buffer is the longer one.
func inStep(t *testing.T, p *Page, when string) {
	t.Helper()
	const near, beeps = 60, 10
	began := time.Now()
	for {
		must(t, p.Eval(nil, "seen.flashes.length = seen.beeps.length = 0"))
		must(t, p.Wait(fmt.Sprintf("seen.beeps.length > %d && seen.flashes.length > %d", beeps, beeps), patience))
		apart := offsets(t, p)
		if len(apart) < beeps {
			t.Fatalf("%s: %d beeps with a flash", when, len(apart))
		}
		median := apart[len(apart)/2]
		after := time.Since(began).Round(time.Second)
		t.Logf("%s, after %v: sound after picture: median %.0f ms, %.0f to %.0f, of %d", when, after, median, apart[0], apart[len(apart)-1], len(apart))
		if math.Abs(median) < near {
			return
		}
		if after > time.Minute {
			t.Fatalf("%s: picture and sound stay %.0f ms apart", when, median)
		}
	}
}

// offsets are how long after its flash each beep came, in ms, in order of size.
func offsets(t *testing.T, p *Page) (apart []float64) {
	t.Helper()
	var seen struct{ Flashes, Beeps []float64 }
	must(t, p.Eval(&seen, "seen"))
	for _, beep := range seen.Beeps {
		nearest := math.Inf(1)
		for _, flash := range seen.Flashes {
			if d := beep - flash; math.Abs(d) < math.Abs(nearest) {
				nearest = d
			}
		}
		if math.Abs(nearest) < 500 {
			apart = append(apart, nearest)
		}
	}
	slices.Sort(apart)
	return apart
}

// TestSoundFits: the control has room beside the others, on a phone too.
func TestSoundFits(t *testing.T) {
	b := startBox(t, soundingCamera)
	for _, size := range []struct{ width, height int }{{360, 740}, {1280, 800}} {
		p := Open(t, Options{Width: size.width, Height: size.height, Dark: size.width == 360})
		must(t, p.Goto(b.url))
		look(t, p, "demo", "?.frames > 5")
		must(t, p.Wait("document.querySelector('[data-camera=demo] .sound').checkVisibility()", patience))
		fits(t, p, "grid", size.width)
		shoot(t, p, fmt.Sprintf("sound-grid-%d", size.width))
		must(t, p.Eval(nil, "location.hash = '#/demo'"))
		must(t, p.Wait("document.querySelector('[data-camera=demo] select').checkVisibility()", patience))
		must(t, p.Click("[data-camera=demo] .sound"))
		plays(t, p, "demo", 640)
		fits(t, p, "one camera", size.width)
		shoot(t, p, fmt.Sprintf("sound-%d", size.width))
		clean(t, p)
	}
}
