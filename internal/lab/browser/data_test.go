package browser

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"edged/internal/lab/rtsp"
)

// aligned collects, for frames on the screen, by how many ms the capture time
// in the frame's record differs from the clock that is in its picture, and
// what the page says of the time from capture to display.
const aligned = `(async () => {
	const { readVideo } = await import('/js/code.js'), { unix } = await import('/js/data.js');
	const video = document.querySelector('[data-camera=demo] video');
	const codes = new Map(), records = new Map(), delays = [];
	return new Promise((done) => {
		const shown = (_, { rtpTimestamp }) => {
			const code = readVideo(video), { data: { last }, delay } = edged.cameras.demo;
			if (code) codes.set(rtpTimestamp, code.time);
			records.set(last.rtp, unix(last.ntp));
			delays.push(delay);
			const both = [...codes.keys()].filter((rtp) => records.has(rtp));
			if (both.length < 60) return video.requestVideoFrameCallback(shown);
			done({ off: both.map((rtp) => records.get(rtp) - codes.get(rtp)), delays });
		};
		video.requestVideoFrameCallback(shown);
	});
})()`

// TestData: a real browser gets the record of each frame that it shows, of
// that frame and no other, and hears when a camera goes.
func TestData(t *testing.T) {
	server := rtsp.Start(t, rtsp.Options{})
	b := startBox(t, patternCamera+fmt.Sprintf(`  - {id: dock, source: %q}
`, server.URL("/test")))
	p := Open(t, Options{})
	must(t, p.Goto(b.url))
	look(t, p, "demo", "?.data?.matched > 60")
	look(t, p, "demo", "?.delay > 0")
	var got struct{ Off, Delays []float64 }
	must(t, p.Eval(&got, aligned))
	slices.Sort(got.Off)
	newest := got.Off[len(got.Off)-1]
	t.Logf("a record is off its picture's clock by %.1f to %.1f ms; capture to display p50 %v, p95 %v",
		got.Off[0], newest, quantile(got.Delays, .5), quantile(got.Delays, .95))
	// A page that is late draws the next picture already, 33 ms newer; it never draws an older one.
	if math.Abs(newest) > 15 {
		t.Errorf("no record fits its picture: the best is off by %.1f ms", newest)
	}
	must(t, p.Key("s"))
	must(t, p.Wait(`/shown after\s*\d+ ms/.test(document.querySelector('[data-camera=demo] .statistics').innerText)`, patience))

	look(t, p, "dock", "?.data?.matched > 5")
	state := func(state string) string {
		return fmt.Sprintf("?.data.events.some((e) => e.method === 'camera.changed' && e.params.camera.id === 'dock' && e.params.camera.state === %q)", state)
	}
	look(t, p, "dock", state("live"))
	server.Kill()
	look(t, p, "dock", state("offline"))
	clean(t, p)
}
