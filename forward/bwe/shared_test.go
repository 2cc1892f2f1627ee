package bwe

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestSeeds: what holds must not hold by luck.
func TestSeeds(t *testing.T) {
	for _, tt := range []struct {
		name  string
		path  path
		least float64
	}{
		{"3 Mbit/s, jitter ±5 ms", path{base: near, rate: constant(3e6), jitter: 5 * time.Millisecond}, highLayer},
		{"5 Mbit/s, 10 % loss", path{base: near, rate: constant(5e6), loss: 0.1}, highLayer},
		{"5 Mbit/s, jitter ±20 ms", path{base: 2 * near, rate: constant(5e6), jitter: 20 * time.Millisecond}, highLayer},
		{"5 Mbit/s, jitter ±40 ms, 5 % loss", path{base: 2 * near, rate: constant(5e6), jitter: 40 * time.Millisecond, loss: 0.05}, 0.9 * highLayer},
		{"5 Mbit/s, 30 % of feedback lost", path{base: near, rate: constant(5e6), feedbackLoss: 0.3}, highLayer},
	} {
		both(t, func(t *testing.T, paced bool) {
			worst, slowest := standard.Max, time.Duration(0)
			for seed := range uint64(8) {
				s := simulate(t, standard, tt.path, twoLayers(paced))
				s.rand = rand.New(rand.NewPCG(seed, 77))
				s.run(time.Minute)
				least, _ := s.between(settled, time.Minute)
				worst = min(worst, least)
				up, ok := s.when(0, func(x sample) bool { return x.layer == 1 })
				if slowest = max(slowest, up); !ok || up > settled {
					t.Errorf("%s: seed %d: on the high layer after %v (%v)", tt.name, seed, up, ok)
				}
			}
			if worst < tt.least {
				t.Errorf("%s: fell to %.0f, want at least %.0f", tt.name, worst, tt.least)
			}
			t.Logf("%-44s | least of 8 seeds %.2f Mbit/s | high layer after at most %v", tt.name, worst/1e6, slowest)
		})
	}
}

// TestShared: viewers behind one bottleneck neither starve nor swing together.
func TestShared(t *testing.T) {
	for _, tt := range []struct {
		viewers  int
		rate     float64
		least    float64 // of all media together, bits/s
		switches int     // of the viewer that switches most, in five minutes
	}{
		{2, 6e6, 4.5e6, 30},
		{2, 5e6, 2.7e6, 60},
		{2, 4e6, 2.7e6, 20},
		{3, 10e6, 7e6, 5},
		{4, 5e6, 3.3e6, 30},
		{10, 10e6, 6.5e6, 60},
	} {
		both(t, func(t *testing.T, paced bool) {
			var all []*simulation
			for i := range tt.viewers {
				s := simulate(t, standard, path{base: near, rate: constant(tt.rate)}, twoLayers(paced))
				s.rand = rand.New(rand.NewPCG(uint64(i), 7))
				s.nextFrame = time.Duration(i) * 7 * time.Millisecond
				s.nextKey = time.Duration(i) * 300 * time.Millisecond
				all = append(all, s)
			}
			shared(all, fiveMins)
			var media, padding, high float64
			var switches int
			for _, s := range all {
				media, padding = media+s.sent, padding+s.padding
				high += s.share(1, settled)
				switches = max(switches, s.switches)
				if least, _ := s.between(settled, fiveMins); least < 0.5*lowLayer {
					t.Errorf("%d viewers on %.0f: one fell to %.0f", tt.viewers, tt.rate, least)
				}
			}
			var sum, worst time.Duration
			for _, x := range all[0].samples {
				sum, worst = sum+x.queue, max(worst, x.queue)
			}
			if got := media * 8 / fiveMins.Seconds(); got < tt.least {
				t.Errorf("%d viewers on %.0f: %.0f bit/s of media, want %.0f", tt.viewers, tt.rate, got, tt.least)
			}
			if switches > tt.switches {
				t.Errorf("%d viewers on %.0f: %d switches of layer", tt.viewers, tt.rate, switches)
			}
			t.Logf("%2d viewers share %2.0f Mbit/s | media %.1f Mbit/s | on the high layer %.1f viewers | most switches %d | padding %.1f %% | queue %v, worst %v",
				tt.viewers, tt.rate/1e6, media*8/fiveMins.Seconds()/1e6, high, switches, 100*padding/(media+padding),
				(sum / time.Duration(len(all[0].samples))).Round(time.Millisecond), worst.Round(time.Millisecond))
		})
	}
}
