package browser

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Figures are what a person in front of the page would feel. All were
// measured in the browser.
type Figures struct {
	Joins    int
	ClickP50 time.Duration // from the page's navigation to its first frame
	ClickP95 time.Duration
	JoinP50  time.Duration // from the view's opening, before its offer is made, to its first frame
	JoinP95  time.Duration
	GlassP50 time.Duration // from a frame's capture to its display, by the pattern's clock
	GlassP95 time.Duration
	Samples  int           // of glass
	Clock    time.Duration // round trip by which the browser knows the box's clock: twice the most that glass may be wrong
	FPS      float64       // frames decoded in the last second
	Buffer   time.Duration // that the browser kept a frame in the last second
}

func (f Figures) String() string {
	ms := func(d time.Duration) string { return fmt.Sprintf("%.0f ms", float64(d)/1e6) }
	return fmt.Sprintf("click to first frame p50 %s, p95 %s; view to first frame p50 %s, p95 %s (%d joins); glass to glass p50 %s, p95 %s (%d samples, clock ± %.1f ms); %.1f frames/s, buffer %s",
		ms(f.ClickP50), ms(f.ClickP95), ms(f.JoinP50), ms(f.JoinP95), f.Joins, ms(f.GlassP50), ms(f.GlassP95), f.Samples, float64(f.Clock)/2e6, f.FPS, ms(f.Buffer))
}

// seen is a camera as window.edged tells of it; times in ms.
type seen struct {
	State     string    `json:"state"`
	Text      string    `json:"text"`
	Frames    int       `json:"frames"` // decoded, of this connection
	Shown     int       `json:"shown"`  // since the page was opened
	Join      float64   `json:"joinMs"`
	First     float64   `json:"firstMs"`
	Opens     int       `json:"opens"`
	Restarts  int       `json:"restarts"`
	Quality   string    `json:"quality"` // that it asks for
	FPS       float64   `json:"fps"`
	Latencies []float64 `json:"latencies"`
	Stats     struct {
		Buffer  float64 `json:"buffer"`
		Codec   string  `json:"codec"`
		At      float64 `json:"at"` // when it was read, in ms
		Packets int     `json:"packets"`
		Path    string  `json:"path"`
	} `json:"stats"`
}

// camera is the expression for a camera of the page.
func camera(id string) string { return fmt.Sprintf("window.edged?.cameras[%q]", id) }

// Measure loads the page joins times in one Chromium and watches the camera,
// whose picture must be the test pattern, for as long as samples readings of
// its clock take, four a second.
func Measure(ctx context.Context, url, id string, joins, samples int) (Figures, error) {
	p, err := Launch(ctx, Options{})
	if err != nil {
		return Figures{}, err
	}
	defer p.Close()
	var clicks, opens []float64
	for range joins {
		c, err := join(p, url, id)
		if err != nil {
			return Figures{}, err
		}
		clicks, opens = append(clicks, c.First), append(opens, c.Join)
	}
	limit := time.Duration(samples)*500*time.Millisecond + 10*time.Second
	if err := p.Wait(fmt.Sprintf("%s.latencies.length >= %d", camera(id), samples), limit); err != nil {
		return Figures{}, fmt.Errorf("camera %q: the pattern's clock: %w", id, err)
	}
	var last seen
	var clock struct {
		RTT float64 `json:"rtt"`
	}
	if err := p.Eval(&last, camera(id)); err != nil {
		return Figures{}, err
	}
	if err := p.Eval(&clock, "edged.clock"); err != nil {
		return Figures{}, err
	}
	return Figures{
		Joins: joins, Samples: len(last.Latencies), Clock: millis(clock.RTT),
		ClickP50: quantile(clicks, .5), ClickP95: quantile(clicks, .95),
		JoinP50: quantile(opens, .5), JoinP95: quantile(opens, .95),
		GlassP50: quantile(last.Latencies, .5), GlassP95: quantile(last.Latencies, .95),
		FPS: last.FPS, Buffer: millis(last.Stats.Buffer),
	}, nil
}

// join loads the page from nothing and waits for the first frame.
func join(p *Page, url, id string) (c seen, err error) {
	if err := p.Goto("about:blank"); err != nil {
		return c, err
	}
	if err := p.Goto(url); err != nil {
		return c, err
	}
	if err := p.Wait(fmt.Sprintf("%s?.joinMs > 0", camera(id)), 10*time.Second); err != nil {
		return c, fmt.Errorf("camera %q: first frame: %w", id, err)
	}
	return c, p.Eval(&c, camera(id))
}

// quantile is the nearest-rank quantile of values in ms.
func quantile(values []float64, q float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(values))
	return millis(s[max(0, int(q*float64(len(s))+.9999999)-1)])
}

func millis(ms float64) time.Duration { return time.Duration(ms * float64(time.Millisecond)) }
