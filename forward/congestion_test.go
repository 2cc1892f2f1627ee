package forward_test

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"edged/capture"
	"edged/capture/encode"
	"edged/capture/pattern"
	"edged/forward"
	"edged/internal/lab/link"

	"github.com/pion/rtp"
)

// bottleneck is a UDP path between one viewer and the SFU: what goes to the
// viewer waits in a queue that is served at a rate and drops what does not
// fit.
type bottleneck struct {
	*link.Path
	rate narrowing
}

// narrowing sets the rate of a path in bits/s; 0: no limit.
type narrowing struct{ path *link.Path }

func (n narrowing) Store(rate int64) {
	n.path.Shape(link.Shape{Rate: rate, Queue: 300 * time.Millisecond}, link.Shape{})
}

func newBottleneck(t *testing.T, sfu uint16) bottleneck {
	t.Helper()
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	p, err := link.Open(netip.AddrPortFrom(loopback, sfu), loopback, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return bottleneck{p, narrowing{p}}
}

// through makes an answer's candidate that of the bottleneck.
func (b bottleneck) through(answer string) string { return b.Through(answer) }

// layeredPattern is a camera with two layers, 700 and 140 kbit/s.
func layeredPattern(t *testing.T, s *forward.SFU) *forward.Stream { return patternCamera(t, s, 2) }

// patternCamera is a camera of 700 kbit/s that is encoded on the box.
func patternCamera(t *testing.T, s *forward.SFU, layers int) *forward.Stream {
	t.Helper()
	cfg := capture.Config{ID: "dock", Source: "pattern:", Video: capture.VideoConfig{Width: 480, Height: 270, FPS: 25, Bitrate: 700_000, Layers: layers}}
	log := slog.New(slog.DiscardHandler)
	source, err := pattern.New(cfg, log)
	if err != nil {
		t.Fatal(err)
	}
	var sink struct{ capture.Sink }
	camera, err := capture.New(cfg, source, &sink, log)
	if err != nil {
		t.Fatal(err)
	}
	st := s.AddStream("dock", camera.Keyframe)
	st.OnDemand(camera.Demand)
	sink.Sink = st
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- camera.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	awaitRing(t, st)
	return st
}

// A viewer whose link gets narrow is given the low layer, and the high one
// again when the link has recovered; by the way it loses no more than a queue
// drops before the box can know.
func TestLayerFollowsTheLink(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no software encoder")
	}
	s := startSFU(t, func(c *forward.Config) { c.TCP = "" })
	st := layeredPattern(t, s)
	udp, _ := s.Ports()
	link := newBottleneck(t, udp)
	c := newClient(t, clientOptions{nacks: true, twcc: true})
	v, answer, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: c.offer(nil)})
	if err != nil {
		t.Fatal(err)
	}
	c.viewer = v
	c.answer(link.through(answer))
	settle := func(what string, layer int) {
		t.Helper()
		began := time.Now()
		for limit := began.Add(40 * time.Second); ; time.Sleep(20 * time.Millisecond) {
			stats := v.Stats()
			if stats.Layer == layer && stats.State == "live" {
				t.Logf("%s: layer %d after %v, estimate %.0f kbit/s", what, layer, time.Since(began).Round(10*time.Millisecond), stats.Estimate/1000)
				return
			}
			if time.Now().After(limit) {
				t.Fatalf("%s: %+v", what, stats)
			}
		}
	}
	settle("join", 0)
	c.wait("three seconds of the best layer", frames(75))
	for _, p := range []struct {
		name  string
		rate  int64
		layer int
	}{{"350 kbit/s", 350_000, 1}, {"no limit", 0, 0}, {"350 kbit/s again", 350_000, 1}} {
		link.rate.Store(p.rate)
		settle(p.name, p.layer)
		c.mu.Lock()
		have := 0
		for _, p := range c.packets {
			if p.Marker {
				have++
			}
		}
		c.mu.Unlock()
		c.wait("pictures of it", frames(have+50))
	}
	// Probes go on meanwhile. A step up that they talk the box into, on a
	// machine that is too busy to pace this link, is taken back.
	c.mu.Lock()
	seen := len(c.packets)
	c.mu.Unlock()
	c.wait("four more seconds", func(packets []*rtp.Packet) bool { return frames(100)(packets[seen:]) })
	settle("four seconds later", 1)
}

// A viewer of a camera with one layer whose link takes a fifth of it goes on
// with keyframes, which are asked for, and is back in full when the link is.
func TestOneLayerFollowsTheLink(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no software encoder")
	}
	s := startSFU(t, func(c *forward.Config) { c.TCP = "" })
	st := patternCamera(t, s, 1)
	udp, _ := s.Ports()
	link := newBottleneck(t, udp)
	c := newClient(t, clientOptions{nacks: true, twcc: true})
	v, answer, err := s.Join(context.Background(), st, forward.ViewerOptions{Offer: c.offer(nil)})
	if err != nil {
		t.Fatal(err)
	}
	c.viewer = v
	c.answer(link.through(answer))
	c.wait("three seconds of pictures", frames(75))
	if n := v.Stats().Thinned; n > 0 {
		t.Errorf("%d frames left out of a link without a limit", n)
	}
	seen := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.packets)
	}
	keyframes := func(n, from int) func([]*rtp.Packet) bool {
		return func(packets []*rtp.Packet) bool {
			for _, p := range packets[from:] {
				if len(p.Payload) > 0 && p.Payload[0]&31 == 24 { // the STAP-A that begins a keyframe
					n--
				}
			}
			return n <= 0
		}
	}
	link.rate.Store(150_000)
	for limit := time.Now().Add(20 * time.Second); v.Stats().Thinned < 20; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("nothing is left out: %+v", v.Stats())
		}
	}
	c.wait("keyframes through the narrow link", keyframes(3, seen()))
	link.rate.Store(0)
	from := seen()
	c.wait("the link's recovery", func(packets []*rtp.Packet) bool {
		n := len(packets) // the last 50 packets that end a frame are one frame apart
		ends := 0
		var last uint32
		for i := n - 1; i >= from && ends < 50; i-- {
			if p := packets[i]; p.Marker {
				if ends > 0 && last-p.Timestamp > 2*90000/25 {
					return false
				}
				last, ends = p.Timestamp, ends+1
			}
		}
		return ends == 50
	})
	stats := v.Stats()
	t.Logf("%d frames left out, %d skipped, estimate %.0f kbit/s, %d keyframes asked for", stats.Thinned, stats.Skipped, stats.Estimate/1000, st.Stats().Keyframe)
}
