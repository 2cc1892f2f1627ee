package forward

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"testing"
	"time"

	"edged/capture"
)

func TestFollowerTable(t *testing.T) {
	inf := math.Inf(1)
	many := func(n int, slow ...float64) []float64 {
		for len(slow) < n {
			slow = append(slow, inf)
		}
		return slow
	}
	for _, c := range []struct {
		name       string
		configured float64
		takes      []float64
		want       float64
	}{
		{"nobody", 2.5e6, nil, 2.5e6},
		{"one viewer alone, however slow", 2.5e6, []float64{100e3}, 2.5e6},
		{"one of two", 2.5e6, []float64{inf, 100e3}, 2.5e6},
		{"two of two: the better of them", 2.5e6, []float64{1e6, 1.5e6}, 1.2e6},
		{"one of nineteen", 2.5e6, many(19, 100e3), 2.5e6},
		{"two of twenty", 2.5e6, many(20, 1e6, 1.5e6), 1.2e6},
		{"two of twenty-one: less than a tenth", 2.5e6, many(21, 1e6, 1.5e6), 2.5e6},
		{"never below a quarter", 2.5e6, []float64{1, 1}, 625e3},
		{"nor below 150 kbit/s", 400e3, []float64{1, 1}, 150e3},
		{"unless less is configured", 100e3, []float64{1, 1}, 100e3},
		{"never above the configured", 2.5e6, []float64{9e9, 9e9}, 2.5e6},
		{"not by a hair", 2.5e6, []float64{3.1e6, 3.1e6}, 2.5e6},
	} {
		var f follower
		last := 0.0
		for s := range 60 {
			got := f.next(testTime.Add(time.Duration(s)*followEvery), c.configured, slices.Clone(c.takes))
			if last > 0 && (got < last*followDown-1 || got > last*followUp+1) {
				t.Errorf("%s: from %.0f to %.0f in a second", c.name, last, got)
			}
			last = got
		}
		if math.Abs(last-c.want) > followSlack*c.want {
			t.Errorf("%s: %.0f, want %.0f", c.name, last, c.want)
		}
	}
}

// Two viewers whose path takes 1 Mbit/s for a minute: down within seconds, then
// still, and back when the path is.
func TestFollowerFollowsATrace(t *testing.T) {
	var f follower
	changes := 0
	var at [180]float64
	for s := range at {
		takes := []float64{math.Inf(1), math.Inf(1)}
		if s >= 30 && s < 90 {
			takes = []float64{1e6, 1.05e6}
		}
		at[s] = f.next(testTime.Add(time.Duration(s)*time.Second), 2.5e6, takes)
		if s > 40 && s < 90 && at[s] != at[s-1] {
			changes++
		}
	}
	if at[29] != 2.5e6 || at[31] != 2.5e6 || at[38] > 0.9e6 || changes > 0 || at[110] < 2.4e6 || at[179] != 2.5e6 {
		t.Errorf("before %.0f, 1 s in %.0f, 8 s in %.0f (%d changes then), 20 s after %.0f", at[29], at[31], at[38], changes, at[110])
	}
}

// Paths of which more is believed each time the rate is low, and that show their
// limit each time it is high: the bitrate rests between, longer and longer.
func TestFollowerDoesNotOscillate(t *testing.T) {
	var f follower
	rate, downs := 2.5e6, 0
	for s := range 600 {
		takes := []float64{math.Inf(1), math.Inf(1)}
		if rate > 1e6 {
			takes = []float64{0.9e6, 0.9e6}
		}
		next := f.next(testTime.Add(time.Duration(s)*time.Second), 2.5e6, takes)
		if next < rate && s > 30 {
			downs++
		}
		rate = next
	}
	if downs > 18 {
		t.Errorf("went down in %d seconds of ten minutes", downs)
	}
}

// Only viewers of the layer count, and of them only what is known.
func TestWhatViewersTake(t *testing.T) {
	n := newNarrow(t, 2.5e6, 500e3)
	n.rate = steps(10e6, 10*time.Second, 1e6)
	rings := n.v.lanes[0].rings
	takes := func(i int) string {
		bits, ok := n.v.takes(rings[i], n.now())
		return fmt.Sprintf("%.0f %v", bits/1e5, ok)
	}
	n.run(9 * time.Second)
	if a, b := takes(0), takes(1); a != "+Inf true" || b != "0 false" {
		t.Errorf("wide: %s, %s", a, b)
	}
	n.v.SetQuality(High)
	n.run(15 * time.Second)
	bits, ok := n.v.takes(rings[0], n.now())
	if !ok || bits < 700e3 || bits > 1.2e6 {
		t.Errorf("1 Mbit/s: %.0f %v", bits, ok)
	}
	n.v.SetQuality(Off)
	if a := takes(0); a != "0 false" {
		t.Errorf("off: %s", a)
	}
}

// The source is told, where it can be.
func TestStreamTellsTheBitrate(t *testing.T) {
	v, _ := bareViewer(t)
	v.log = v.sfu.log
	w, _ := bareViewer(t)
	st := v.stream
	var told []string
	st.OnBitrate(func(layer, bits int) { told = append(told, fmt.Sprint(layer, " ", bits/1000)) })
	for _, bitrate := range []int{0, 1_000_000} {
		st.Describe([]capture.Track{{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000, Bitrate: bitrate}})
		remote := netip.MustParseAddrPort("127.0.0.1:9")
		for _, v := range []*Viewer{v, w} {
			l := newLane([]*ring{st.feeds[0].ring}, 90000, videoFormat, testTime)
			v.stream, v.lanes, v.heard, v.quality, v.log = st, []*lane{l}, true, Auto, st.sfu.log
			v.remote.Store(&remote)
			numberPackets(v, 3)
			l.started, l.rung = true, rungKeys // they get no more than keyframes
			v.bandwidth.REMB(testTime, 500e3)
			v.bandwidth.Want(1)
		}
		for s := range 5 {
			now := testTime.Add(time.Duration(s) * time.Second)
			for _, v := range []*Viewer{v, w} {
				v.bandwidth.Probe(now) // the time goes on
			}
			st.followViewers([]*Viewer{v, w}, now)
		}
	}
	if got := fmt.Sprint(told); got != "[0 700 0 490 0 400]" {
		t.Errorf("told %v", got)
	}
}
