package bwe

import (
	"fmt"
	"math"
	"testing"
	"time"
)

var standard = Config{Min: 100e3, Start: 1e6, Max: 20e6}

const (
	near     = 20 * time.Millisecond // one way
	settled  = 20 * time.Second
	fiveMins = 300 * time.Second
)

// both runs a test with frames that leave at once and with paced ones.
func both(t *testing.T, f func(t *testing.T, paced bool)) {
	for _, paced := range []bool{false, true} {
		t.Run(map[bool]string{false: "at once", true: "paced"}[paced], func(t *testing.T) { f(t, paced) })
	}
}

func twoLayers(paced bool) source {
	s := camera(lowLayer, highLayer)
	s.paced = paced
	return s
}

// during is high but low between two times.
func during(from, to time.Duration, low, high float64) func(time.Duration) float64 {
	return func(t time.Duration) float64 {
		if from <= t && t < to {
			return low
		}
		return high
	}
}

func row(t *testing.T, s *simulation, format string, a ...any) {
	t.Helper()
	var worst time.Duration
	for _, x := range s.samples {
		worst = max(worst, x.queue)
	}
	least, most := s.between(settled, math.MaxInt64)
	t.Logf("%-44s | settled %.2f–%.2f Mbit/s | layer switches %d | padding %.1f %% | worst queue %v",
		fmt.Sprintf(format, a...), least/1e6, most/1e6, s.switches, 100*s.padding/(s.padding+s.sent), worst.Round(time.Millisecond))
}

// TestDropAndRecovery: 5 Mbit/s → 600 kbit/s → 5 Mbit/s.
func TestDropAndRecovery(t *testing.T) {
	both(t, func(t *testing.T, paced bool) {
		for d := 10 * time.Second; d < 40*time.Second; d += 3 * time.Second {
			const drop = 20 * time.Second
			s := simulate(t, standard, path{base: near, rate: during(drop, drop+d, 600e3, 5e6)}, twoLayers(paced))
			s.run(drop + d + 60*time.Second)
			fell, ok := s.when(drop, func(x sample) bool { return x.estimate < 700e3 })
			if !ok || fell > 1500*time.Millisecond {
				t.Errorf("%v of 600 kbit/s: below 700 kbit/s after %v (%v)", d, fell, ok)
			}
			if least, most := s.between(drop+1500*time.Millisecond, drop+d); most > 900e3 || least < 400e3 {
				t.Errorf("%v of 600 kbit/s: the estimate was %.0f to %.0f meanwhile", d, least, most)
			}
			drained, ok := s.when(drop+fell, func(x sample) bool { return x.queue < 50*time.Millisecond })
			if !ok || drained > 8*time.Second {
				t.Errorf("%v of 600 kbit/s: the queue drained after %v (%v)", d, drained, ok)
			}
			rose, ok := s.when(drop+d, func(x sample) bool { return x.estimate > highLayer })
			if !ok || rose > 8*time.Second {
				t.Errorf("%v of 600 kbit/s: above 2.5 Mbit/s after %v (%v)", d, rose, ok)
			}
			if s.switches != 3 {
				t.Errorf("%v of 600 kbit/s: %d switches of layer, want up, down and up", d, s.switches)
			}
			row(t, s, "%v at 600k: fell %v drained %v rose %v", d, fell, drained, rose)
		}
	})
}

// TestSteady: whatever the path does besides, one that takes the high layer keeps it.
func TestSteady(t *testing.T) {
	for _, tt := range []struct {
		name  string
		path  path
		tune  func(*source)
		least float64 // of the estimate, once settled
		long  bool    // five minutes, else two
	}{
		{"3 Mbit/s", path{base: near, rate: constant(3e6)}, nil, highLayer, true},
		{"3 Mbit/s, 60 frames/s", path{base: near, rate: constant(3e6)}, func(s *source) { s.fps = 60 }, highLayer, false},
		{"3 Mbit/s, 10 frames/s", path{base: near, rate: constant(3e6)}, func(s *source) { s.fps = 10 }, highLayer, false},
		{"3 Mbit/s, keyframes every 10 s", path{base: near, rate: constant(3e6)}, func(s *source) { s.gop, s.key = 10*time.Second, 12 }, highLayer, false},
		{"3 Mbit/s, feedback every 50 ms", path{base: near, rate: constant(3e6), every: 50 * time.Millisecond}, nil, highLayer, false},
		{"3 Mbit/s, feedback every 250 ms", path{base: near, rate: constant(3e6), every: 250 * time.Millisecond}, nil, highLayer, false},
		{"3 Mbit/s, round trip 300 ms", path{base: 150 * time.Millisecond, rate: constant(3e6)}, nil, highLayer, false},
		{"3 Mbit/s, clock 200 ppm fast", path{base: near, rate: constant(3e6), skew: 200e-6}, nil, highLayer, false},
		{"3 Mbit/s, probes asked for with frames", path{base: near, rate: constant(3e6)}, func(s *source) { s.poll = 33 * time.Millisecond }, highLayer, false},
		{"3 Mbit/s, policed", path{base: near, rate: constant(3e6), police: 50e3}, nil, highLayer, false},
		{"3 Mbit/s, jitter ±5 ms", path{base: near, rate: constant(3e6), jitter: 5 * time.Millisecond}, nil, 0.95 * highLayer, false},
		{"5 Mbit/s, 2 % loss", path{base: near, rate: constant(5e6), loss: 0.02}, nil, highLayer, true},
		{"5 Mbit/s, 5 % loss", path{base: near, rate: constant(5e6), loss: 0.05}, nil, highLayer, true},
		{"5 Mbit/s, 10 % loss", path{base: near, rate: constant(5e6), loss: 0.10}, nil, highLayer, true},
		{"5 Mbit/s, jitter ±20 ms", path{base: 40 * time.Millisecond, rate: constant(5e6), jitter: 20 * time.Millisecond}, nil, 0.9 * highLayer, false},
		{"5 Mbit/s, jitter ±40 ms", path{base: 40 * time.Millisecond, rate: constant(5e6), jitter: 40 * time.Millisecond}, nil, 0.95 * highLayer, true},
		{"5 Mbit/s, 30 % of feedback lost", path{base: near, rate: constant(5e6), feedbackLoss: 0.3}, nil, highLayer, false},
		{"5 Mbit/s, reference time wraps", path{base: near, rate: constant(5e6), origin: 1<<24*referenceUnit - time.Minute}, nil, highLayer, false},
		{"5 Mbit/s, viewer's clock jumps 1 h", path{base: near, rate: constant(5e6), jump: jump(time.Hour)}, nil, highLayer, false},
		{"5 Mbit/s, viewer's clock jumps 2 s", path{base: near, rate: constant(5e6), jump: jump(2 * time.Second)}, nil, highLayer, false},
		{"5 Mbit/s, viewer's clock jumps back", path{base: near, rate: constant(5e6), jump: jump(-time.Hour)}, nil, 0.95 * highLayer, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, paced bool) {
				src := twoLayers(paced)
				if tt.tune != nil {
					tt.tune(&src)
				}
				s := simulate(t, standard, tt.path, src)
				d := 2 * time.Minute
				if tt.long {
					d = fiveMins
				}
				s.run(d)
				if least, _ := s.between(settled, d); least < tt.least {
					t.Errorf("fell to %.0f, want at least %.0f", least, tt.least)
				}
				if on := s.share(1, settled); on < 1 {
					t.Errorf("%.1f %% of the time on the high layer", 100*on)
				}
				row(t, s, "%s", tt.name)
			})
		})
	}
}

func jump(by time.Duration) func(time.Duration) time.Duration {
	return func(t time.Duration) time.Duration {
		if t > time.Minute {
			return by
		}
		return 0
	}
}

// TestNarrow: a path that takes less than the high layer is not asked to carry it for long.
func TestNarrow(t *testing.T) {
	for _, tt := range []struct {
		name        string
		path        path
		least, most float64
		switches    int
	}{
		{"2 Mbit/s", path{base: near, rate: constant(2e6)}, 1.3e6, 2.1e6, 0},
		{"1 Mbit/s", path{base: near, rate: constant(1e6)}, 650e3, 1.1e6, 0},
		{"600 kbit/s", path{base: near, rate: constant(600e3)}, 400e3, 900e3, 0},
		{"1 Mbit/s, a burst of 40 kB passes at once", path{base: near, rate: constant(1e6), bucket: 40e3}, 500e3, 2.4e6, 6},
		{"600 kbit/s, a burst of 40 kB passes at once", path{base: near, rate: constant(600e3), bucket: 40e3}, 400e3, 2.4e6, 6},
		{"1 Mbit/s, policed", path{base: near, rate: constant(1e6), police: 20e3}, 500e3, 2.4e6, 6},
		{"1 Mbit/s, queue of 10 kB", path{base: near, rate: constant(1e6), limit: 10e3}, 500e3, 1.2e6, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, paced bool) {
				s := simulate(t, standard, tt.path, twoLayers(paced))
				s.run(fiveMins)
				if least, most := s.between(settled, fiveMins); least < tt.least || most > tt.most {
					t.Errorf("was %.0f to %.0f, want %.0f to %.0f", least, most, tt.least, tt.most)
				}
				if s.switches > tt.switches {
					t.Errorf("%d switches of layer", s.switches)
				}
				if share := s.padding / (s.padding + s.sent); share > 0.07 {
					t.Errorf("%.1f %% padding", 100*share)
				}
				row(t, s, "%s", tt.name)
			})
		})
	}
}

// TestLAN: from 1 Mbit/s to what is wanted, only by probes.
func TestLAN(t *testing.T) {
	for _, rate := range []float64{100e6, 1e9} {
		s := simulate(t, standard, path{base: time.Millisecond, rate: constant(rate)}, camera(lowLayer, 6e6))
		s.run(30 * time.Second)
		rose, ok := s.when(0, func(x sample) bool { return x.estimate >= 5e6 })
		if !ok || rose > 3*time.Second {
			t.Errorf("%.0f: above 5 Mbit/s after %v (%v)", rate, rose, ok)
		}
		row(t, s, "LAN of %.0f Mbit/s: 5 Mbit/s after %v", rate/1e6, rose)
	}
}

// TestSourceLimited: what is not sent is not proved.
func TestSourceLimited(t *testing.T) {
	src := camera(lowLayer)
	src.want = 0
	s := simulate(t, standard, path{base: near, rate: constant(50e6)}, src)
	s.run(600 * time.Second)
	// a second with a keyframe carries more than the layer's rate
	limit := capFactor*1.25*lowLayer + capSlack
	if _, most := s.between(60*time.Second, 600*time.Second); most > limit {
		t.Errorf("rose to %.0f, want at most %.0f", most, limit)
	}
	if least, _ := s.between(0, 600*time.Second); least < lowLayer {
		t.Errorf("fell to %.0f", least)
	}
	if s.padding > 0 {
		t.Errorf("%.0f bytes of padding that nobody wanted", s.padding)
	}
	row(t, s, "500 kbit/s on 50 Mbit/s for 10 minutes")
}

// TestBelowMin: a path that takes less than Min gets Min.
func TestBelowMin(t *testing.T) {
	s := simulate(t, Config{Min: 300e3, Start: 300e3, Max: 5e6}, path{base: near, rate: constant(50e3)}, twoLayers(false))
	s.run(time.Minute)
	if least, _ := s.between(0, time.Minute); least < 300e3 {
		t.Errorf("fell to %.0f", least)
	}
}

// TestReports: a viewer without transport-wide feedback.
func TestReports(t *testing.T) {
	for _, tt := range []struct {
		name        string
		path        path
		least, most float64
	}{
		{"5 Mbit/s", path{base: near, rate: constant(5e6), reports: true}, highLayer, 5e6},
		{"5 Mbit/s, 5 % loss", path{base: near, rate: constant(5e6), reports: true, loss: 0.05}, highLayer, 5e6},
		{"1 Mbit/s", path{base: near, rate: constant(1e6), reports: true}, 500e3, 1.5e6},
		{"1 Mbit/s, queue of 10 kB", path{base: near, rate: constant(1e6), reports: true, limit: 10e3}, 400e3, 1.5e6},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, paced bool) {
				s := simulate(t, standard, tt.path, twoLayers(paced))
				s.run(fiveMins)
				if least, most := s.between(settled, fiveMins); least < tt.least || most > tt.most {
					t.Errorf("was %.0f to %.0f, want %.0f to %.0f", least, most, tt.least, tt.most)
				}
				row(t, s, "reports only: %s", tt.name)
			})
		})
	}
}

// TestReportsDrop: the low layer within two reports and a round trip of the drop.
func TestReportsDrop(t *testing.T) {
	const drop = 30 * time.Second
	s := simulate(t, standard, path{base: near, rate: during(drop, fiveMins, 600e3, 5e6), reports: true}, twoLayers(false))
	s.run(60 * time.Second)
	fell, ok := s.when(drop, func(x sample) bool { return x.estimate < highLayer })
	if !ok || fell > 4*time.Second {
		t.Errorf("below the high layer after %v (%v)", fell, ok)
	}
	row(t, s, "reports only: 5 Mbit/s → 600 kbit/s: fell %v", fell)
}

// TestSilence: without feedback the estimate decays, and comes back with it.
func TestSilence(t *testing.T) {
	p := path{base: near, rate: constant(5e6)}
	p.silent = func(t time.Duration) bool { return 30*time.Second <= t && t < 50*time.Second }
	s := simulate(t, standard, p, twoLayers(false))
	s.run(80 * time.Second)
	if decayed, ok := s.when(30*time.Second, func(x sample) bool { return x.estimate < highLayer }); !ok || decayed > 5*time.Second {
		t.Errorf("below the high layer after %v (%v)", decayed, ok)
	}
	if least, _ := s.between(49*time.Second, 50*time.Second); least != standard.Min {
		t.Errorf("%.0f after 19 s of silence, want the minimum", least)
	}
	if rose, ok := s.when(50*time.Second, func(x sample) bool { return x.estimate > highLayer }); !ok || rose > 8*time.Second {
		t.Errorf("above 2.5 Mbit/s after %v (%v)", rose, ok)
	}
	row(t, s, "20 s without feedback")
}

// TestIdle: after a pause the estimate is no more than it was, and not less than a start.
func TestIdle(t *testing.T) {
	s := simulate(t, standard, path{base: near, rate: constant(5e6)}, twoLayers(false))
	s.pause = func(t time.Duration) bool { return 30*time.Second <= t && t < 630*time.Second }
	s.run(630 * time.Second)
	_, before := s.between(29*time.Second, 30*time.Second)
	s.run(30 * time.Second)
	if least, most := s.between(630*time.Second, 631*time.Second); least < standard.Start*0.9 || most > 1.3*before {
		t.Errorf("%.0f to %.0f after ten minutes of nothing, before %.0f", least, most, before)
	}
	if rose, ok := s.when(630*time.Second, func(x sample) bool { return x.estimate > highLayer }); !ok || rose > 8*time.Second {
		t.Errorf("above 2.5 Mbit/s after %v (%v)", rose, ok)
	}
	row(t, s, "ten minutes idle")
}

// TestBlackout: everything is lost for a while.
func TestBlackout(t *testing.T) {
	p := path{base: near, rate: during(30*time.Second, 35*time.Second, 1, 5e6), limit: 20e3}
	s := simulate(t, standard, p, twoLayers(true))
	s.run(60 * time.Second)
	if fell, ok := s.when(30*time.Second, func(x sample) bool { return x.estimate < highLayer }); !ok || fell > 4*time.Second {
		t.Errorf("below the high layer after %v (%v)", fell, ok)
	}
	if rose, ok := s.when(35*time.Second, func(x sample) bool { return x.estimate > highLayer }); !ok || rose > 8*time.Second {
		t.Errorf("above 2.5 Mbit/s after %v (%v)", rose, ok)
	}
	s.samples = s.samples[:0] // queues of an endless second tell nothing
}

// TestStalls: a path that stands still for 200 ms every three seconds keeps
// the high layer most of the time.
func TestStalls(t *testing.T) {
	rate := func(t time.Duration) float64 {
		if t > 10*time.Second && t%(3*time.Second) < 200*time.Millisecond {
			return 1
		}
		return 5e6
	}
	both(t, func(t *testing.T, paced bool) {
		s := simulate(t, standard, path{base: near, rate: rate}, twoLayers(paced))
		s.run(fiveMins)
		if on := s.share(1, settled); on < 0.85 {
			t.Errorf("%.1f %% of the time on the high layer", 100*on)
		}
	})
}
