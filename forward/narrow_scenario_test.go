package forward

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/interceptor/pkg/twcc"
)

// One layer of 2.5 Mbit/s on 300 kbit/s: the picture goes on as keyframes, that
// wait nowhere for long, and is whole again soon after the link is.
func TestOneLayerOnANarrowLink(t *testing.T) {
	const falls, rises, ends = 10 * time.Second, 70 * time.Second, 100 * time.Second
	for _, c := range []struct {
		name  string
		gop   int
		limit time.Duration
	}{
		{"a deep queue", 60, time.Hour},
		{"a queue of 300 ms", 60, 300 * time.Millisecond},
		{"a queue of a second, keyframes on request", 300, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNarrow(t, 2.5e6)
			n.gop, n.limit = c.gop, c.limit
			asked := 0
			ask := n.v.stream.ask
			n.v.stream.ask = func(layer int) { asked++; ask(layer) }
			n.rate = steps(10e6, falls, 300e3, rises, 10e6)
			n.run(ends)
			n.log(falls-time.Second, rises+8*time.Second)
			const settled = falls + 8*time.Second
			if shown, longest := n.between(settled, rises); shown < 15 || longest > 5*time.Second {
				t.Errorf("narrow: %d pictures in 52 s, the longest wait %v", shown, longest)
			}
			for _, p := range n.pictures {
				if p.at > settled && p.at < rises && !p.key {
					t.Fatalf("at %v picture %d is no keyframe", p.at, p.id)
				}
			}
			if d := n.waited(settled, rises); d > time.Second {
				t.Errorf("narrow: a packet waited %v in the link", d)
			}
			if shown, longest := n.between(rises+10*time.Second, ends); shown < 595 || longest > 100*time.Millisecond {
				t.Errorf("wide again: %d pictures in 20 s, the longest wait %v", shown, longest)
			}
			if asked > 35 {
				t.Errorf("%d keyframes asked for", asked)
			}
			t.Logf("%d keyframes asked for, %d packets lost, %d sent again", asked, n.lost, n.v.counts.RTX)
		})
	}
}

// Frames that nothing refers to go first, and the picture goes on moving.
func TestDiscardableFramesGoFirst(t *testing.T) {
	n := newNarrow(t, 2.5e6)
	n.spared = 2
	n.gop = 300
	n.rate = steps(10e6, 10*time.Second, 1.8e6, 70*time.Second, 10e6)
	asked := 0
	n.v.stream.ask = func(int) { asked++; n.asked = true }
	n.run(90 * time.Second)
	n.log(8*time.Second, 80*time.Second)
	if shown, longest := n.between(16*time.Second, 70*time.Second); shown < 14*54 || longest > time.Second {
		t.Errorf("%d pictures in 54 s, the longest wait %v", shown, longest)
	}
	if d := n.waited(16*time.Second, 70*time.Second); d > 600*time.Millisecond {
		t.Errorf("a packet waited %v in the link", d)
	}
	if shown, _ := n.between(80*time.Second, 90*time.Second); shown < 298 {
		t.Errorf("%d pictures in 10 s of a wide link", shown)
	}
	if asked > 8 {
		t.Errorf("%d keyframes asked for", asked)
	}
}

// 5 Mbit/s, 600 kbit/s, and back: with two layers the low one comes within two
// seconds, moving; with one, keyframes do.
func TestDropAndRecovery(t *testing.T) {
	const falls, rises, ends = 10 * time.Second, 70 * time.Second, 100 * time.Second
	for _, c := range []struct {
		name   string
		layers []float64
		limit  time.Duration
		low    time.Duration
		shown  int // at least, in the 57 s after the first three
	}{
		{"two layers", []float64{2.5e6, 400e3}, time.Second, 1200 * time.Millisecond, 30 * 55},
		{"two layers, a queue of 300 ms", []float64{2.5e6, 400e3}, 300 * time.Millisecond, 1200 * time.Millisecond, 30 * 55},
		{"two layers, a deep queue", []float64{2.5e6, 400e3}, time.Hour, 1200 * time.Millisecond, 30 * 55},
		{"one layer", []float64{2.5e6}, time.Second, 0, 24},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNarrow(t, c.layers...)
			n.limit = c.limit
			n.rate = steps(5e6, falls, 600e3, rises, 5e6)
			n.run(falls)
			l, layer, switches := n.v.lanes[0], 0, 0
			for n.at < ends {
				n.run(100 * time.Millisecond)
				if want := len(c.layers) - 1; n.at == falls+c.low && c.low > 0 && l.layer != want {
					t.Errorf("layer %d after %v", l.layer, c.low)
				}
				if n.at == rises+6*time.Second && c.low > 0 && l.layer != 0 {
					t.Error("the low layer 6 s after the link is wide again")
				}
				if l.layer != layer {
					layer = l.layer
					switches++
				}
			}
			n.log(falls-time.Second, rises+12*time.Second)
			if want := 2 * (len(c.layers) - 1); switches != want {
				t.Errorf("%d switches, want %d", switches, want)
			}
			if shown, _ := n.between(falls+3*time.Second, rises); shown < c.shown {
				t.Errorf("narrow: %d pictures in 57 s", shown)
			}
			if d := n.waited(falls+10*time.Second, rises); d > time.Second {
				t.Errorf("narrow: a packet waited %v in the link", d)
			}
			if shown, longest := n.between(rises+10*time.Second, ends); shown < 595 || longest > 120*time.Millisecond || l.layer != 0 {
				t.Errorf("wide again: layer %d, %d pictures in 20 s, the longest wait %v", l.layer, shown, longest)
			}
		})
	}
}

// A steady link between the layers: the low one, for good.
func TestNoSwingOnASteadyLink(t *testing.T) {
	for _, loss := range []float64{0, .02} {
		n := newNarrow(t, 2.5e6, 500e3)
		n.limit, n.rate = 300*time.Millisecond, steps(1.2e6)
		n.bad = &badness{random: rand.New(rand.NewPCG(1, 1)), loss: loss}
		n.run(30 * time.Second)
		for l := n.v.lanes[0]; n.at < 330*time.Second; n.run(100 * time.Millisecond) {
			if l.layer != 1 || l.rung != rungAll {
				t.Fatalf("%v lost: layer %d, rung %d after %v", loss, l.layer, l.rung, n.at)
			}
		}
		if shown, longest := n.between(30*time.Second, 330*time.Second); shown < 300*30-2 || longest > 300*time.Millisecond {
			t.Errorf("%v lost: %d pictures in 300 s, the longest wait %v", loss, shown, longest)
		}
	}
}

// Not even the lowest layer fits: its keyframes do.
func TestTheLowestLayerIsThinned(t *testing.T) {
	n := newNarrow(t, 2.5e6, 500e3)
	n.limit = time.Second
	n.rate = steps(5e6, 10*time.Second, 150e3)
	n.run(70 * time.Second)
	n.log(8*time.Second, 70*time.Second)
	if shown, longest := n.between(20*time.Second, 70*time.Second); shown < 20 || longest > 5*time.Second {
		t.Errorf("%d pictures in 50 s, the longest wait %v", shown, longest)
	}
	if d := n.waited(20*time.Second, 70*time.Second); d > time.Second {
		t.Errorf("a packet waited %v in the link", d)
	}
	if n.v.lanes[0].layer != 1 {
		t.Errorf("layer %d", n.v.lanes[0].layer)
	}
}

// On a path that takes it all, whatever the source does, no frame is left out
// and none is sent in parts.
func TestNothingIsLeftOutOnAWideLink(t *testing.T) {
	for _, rate := range []float64{300e3, 2.5e6, 12e6} {
		n := newNarrow(t, rate)
		n.rate = steps(1e9)
		for range 60 {
			n.run(time.Second)
			if n.v.partial || n.v.lanes[0].part != 0 {
				t.Fatalf("%.0f bit/s: a frame in parts after %v", rate, n.at)
			}
			if n.at == 30*time.Second { // the scene moves
				n.layers[0] = 12e6
			}
		}
		shown, longest := n.between(time.Second, time.Minute)
		if shown < 59*30-2 || longest > 40*time.Millisecond || n.v.counts.Thinned+n.v.counts.Skipped > 0 {
			t.Errorf("%.0f bit/s: %d pictures, the longest wait %v, %d left out", rate, shown, longest, n.v.counts.Thinned)
		}
	}
}

// Frames in parts, and those that are left out, cost no garbage either.
func TestNarrowLinksAllocateNothing(t *testing.T) {
	v, r, payloads := path(t, true)
	v.log = v.sfu.log
	numberPackets(v, 3)
	v.heard, v.quality = true, Auto
	var b batch
	i, now := 0, testTime.Add(burstWait)
	one := func() {
		now = now.Add(33 * time.Millisecond)
		r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%30 == 0, Discardable: i%2 == 1, Payloads: payloads}, now)
		v.lanes[0].rung, v.lanes[0].keyRate = i/500%rungs, 1e6
		v.lanes[0].thinned = now // stays as it is
		for partial := true; partial; now = now.Add(paceStep) {
			_, partial = v.pump(&b, now) // nobody answers: the path is narrow
		}
		b.flush()
		i++
	}
	for range ringPackets {
		one()
	}
	if n := testing.AllocsPerRun(2000, one); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	if v.counts.Thinned == 0 || v.counts.Packets < 1000 {
		t.Errorf("%+v", v.counts)
	}
}

// What it costs to know the path: a feedback each 100 ms.
func BenchmarkMeasuredPath(b *testing.B) {
	for _, measured := range []bool{false, true} {
		b.Run(fmt.Sprintf("measured=%v", measured), func(b *testing.B) {
			v, r, payloads := path(b, true)
			v.log = v.sfu.log
			if measured {
				numberPackets(v, 3)
				v.heard, v.quality = true, Auto
			}
			recorder := twcc.NewRecorder(1)
			var feedback [][]byte // of three frames each
			var out batch
			now := testTime.Add(burstWait)
			const feedbacks = 300
			for i := range uint16(feedbacks * 27) {
				recorder.Record(1, i, int64(i/9)*33000)
				if i%27 == 26 {
					packet, err := recorder.BuildFeedbackPacket()[0].Marshal()
					if err != nil {
						b.Fatal(err)
					}
					feedback = append(feedback, packet)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				if measured && i%(3*feedbacks) == 0 { // numbers from 0 on again
					b.StopTimer()
					numberPackets(v, 3)
					b.StartTimer()
				}
				now = now.Add(33 * time.Millisecond)
				r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i%60 == 0, Payloads: payloads}, now)
				v.pump(&out, now)
				if measured && i%3 == 2 {
					v.feedback(feedback[i/3%feedbacks], now)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(payloads)), "ns/packet")
		})
	}
}

// Two viewers on 1 Mbit/s of a camera that is encoded on the box: its bitrate
// follows them, so that their pictures move; alone, one gets keyframes.
func TestEncoderFollowsTwoViewers(t *testing.T) {
	const falls, rises, ends = 10 * time.Second, 120 * time.Second, 200 * time.Second
	for viewers := 1; viewers <= 2; viewers++ {
		var all []*narrow
		for i := range viewers {
			n := newNarrow(t, 2.5e6)
			n.limit = time.Second
			n.frame = 0
			n.base += time.Duration(i) * 10 * time.Millisecond
			n.rate = steps(10e6, falls, 1e6, rises, 10e6)
			all = append(all, n)
		}
		var f follower
		var lowest, highest float64
		for s := time.Duration(0); s < ends; s += time.Second {
			var takes []float64
			for _, n := range all {
				n.run(time.Second)
				if bits, ok := n.v.takes(n.v.lanes[0].rings[0], n.now()); ok {
					takes = append(takes, bits)
				}
			}
			bitrate := f.next(all[0].now(), 2.5e6, takes)
			for _, n := range all {
				n.layers[0] = bitrate
			}
			if s == falls+20*time.Second {
				lowest, highest = bitrate, bitrate
			}
			if s > falls+20*time.Second && s < rises {
				lowest, highest = min(lowest, bitrate), max(highest, bitrate)
			}
		}
		shown, longest := all[0].between(falls+20*time.Second, rises)
		wide, _ := all[0].between(ends-10*time.Second, ends)
		t.Logf("%d viewers: bitrate %.0f to %.0f kbit/s, %.1f pictures a second, longest wait %v, queue %v; at last %.0f kbit/s", viewers, lowest/1e3, highest/1e3,
			float64(shown)/90, longest, all[0].waited(falls+20*time.Second, rises), f.target/1e3)
		if wide < 295 || f.target != 2.5e6 {
			t.Errorf("%d viewers, wide again: %d pictures in 10 s, %.0f bit/s", viewers, wide, f.target)
		}
		if viewers == 1 && lowest < 2.5e6 {
			t.Error("the bitrate was lowered for one viewer alone")
		}
		if viewers == 2 && (shown < 25*90 || highest > 1.2e6 || lowest < 600e3) {
			t.Errorf("%d pictures in 90 s, %.0f to %.0f bit/s", shown, lowest, highest)
		}
	}
}

// Two viewers behind one link that is just too narrow for both: one gets less,
// and it stays so. No more than that is shared between them.
func TestTwoViewersShareALink(t *testing.T) {
	for _, c := range []struct {
		layers []float64
		moves  int // viewers whose picture moves
	}{
		{[]float64{2.5e6, 500e3}, 2},
		{[]float64{2.5e6}, 1},
	} {
		var all []*narrow
		for i := range 2 {
			n := newNarrow(t, c.layers...)
			n.limit, n.rate = time.Second, steps(5e6)
			n.base += time.Duration(i) * 7 * time.Millisecond
			all = append(all, n)
		}
		var changes, moves int
		var was [2][2]int
		for all[0].at < 5*time.Minute {
			shared(all, 50*time.Millisecond)
			for i, n := range all {
				if now := [2]int{n.v.lanes[0].layer, n.v.lanes[0].rung}; now != was[i] {
					was[i] = now
					changes++
				}
			}
		}
		for i, n := range all {
			shown, longest := n.between(10*time.Second, 5*time.Minute)
			queue := n.waited(10*time.Second, 5*time.Minute)
			t.Logf("%v, viewer %d: %.1f pictures a second, longest wait %v, queue %v", c.layers, i, float64(shown)/290, longest, queue)
			if shown > 25*290 {
				moves++
			}
			if longest > 4*time.Second || queue > 600*time.Millisecond {
				t.Errorf("%v, viewer %d: longest wait %v, queue %v", c.layers, i, longest, queue)
			}
		}
		if moves < c.moves || changes > 20 {
			t.Errorf("%v: %d pictures move, %d changes in five minutes", c.layers, moves, changes)
		}
	}
}
