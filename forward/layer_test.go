package forward

import (
	"fmt"
	"testing"
	"time"

	"edged/capture"
)

func TestChooserTable(t *testing.T) {
	three := []float64{2_500_000, 500_000, 100_000}
	for _, c := range []struct {
		name     string
		quality  Quality
		current  int
		rates    []float64
		estimate float64
		want     int
	}{
		{"no estimate: the best", Auto, 0, three, 0, 0},
		{"enough", Auto, 0, three, 3e6, 0},
		{"too little for the best", Auto, 0, three, 2e6, 1},
		{"two down at once", Auto, 0, three, 300_000, 2},
		{"never below the lowest", Auto, 2, three, 1, 2},
		{"up is not at once", Auto, 2, three, 1e9, 2},
		{"high, whatever the path says", High, 2, three, 1, 0},
		{"low", Low, 0, three, 1e9, 2},
		{"the best that delivers", High, 2, []float64{0, 500_000, 100_000}, 0, 1},
		{"the lowest that delivers", Low, 0, []float64{2_500_000, 500_000, 0}, 0, 1},
		{"the current one is dead", Auto, 1, []float64{2_500_000, 0, 100_000}, 400_000, 2},
		{"nothing delivers", Auto, 1, []float64{0, 0, 0}, 1e6, 1},
		{"one layer", Auto, 0, []float64{2_500_000}, 1, 0},
	} {
		var ch chooser
		if got := ch.next(testTime, c.quality, c.current, c.rates, c.estimate); got != c.want {
			t.Errorf("%s: layer %d, want %d", c.name, got, c.want)
		}
	}
}

// A link that falls, and comes back: down at once, up a step at a time.
func TestChooserFollowsATrace(t *testing.T) {
	rates := []float64{2_500_000, 500_000, 100_000}
	var ch chooser
	layer, at := 0, map[int]time.Duration{}
	for ms := 0; ms < 30_000; ms += 100 {
		estimate := 5e6
		if ms >= 5_000 && ms < 15_000 {
			estimate = 150_000
		}
		now := testTime.Add(time.Duration(ms) * time.Millisecond)
		if next := ch.next(now, Auto, layer, rates, estimate); next != layer {
			layer = next
			at[layer] = time.Duration(ms) * time.Millisecond
		}
	}
	if at[2] != 5*time.Second || at[1] != 17*time.Second || at[0] != 19100*time.Millisecond {
		t.Errorf("steps at %v", at)
	}
}

func TestChooserDoesWhatAPersonAsksAtOnce(t *testing.T) {
	rates := []float64{2_500_000, 500_000}
	var ch chooser
	if got := ch.next(testTime, Low, 0, rates, 5e6); got != 1 {
		t.Fatalf("low is layer %d", got)
	}
	ch.asked(testTime)
	if got := ch.next(testTime, Auto, 1, rates, 5e6); got != 0 {
		t.Errorf("auto on a wide path is layer %d", got)
	}
	ch.asked(testTime)
	if got := ch.next(testTime, Auto, 1, rates, 1e6); got != 1 {
		t.Errorf("auto on a narrow path is layer %d", got)
	}
}

// An estimate that is enough only until it is used: the steps up become rare.
func TestChooserDoesNotOscillate(t *testing.T) {
	rates := []float64{2_500_000, 500_000}
	var ch chooser
	layer, steps := 0, 0
	for ms := 0; ms < 300_000; ms += 100 {
		estimate := 4e6
		if layer == 0 {
			estimate = 1e6
		}
		if next := ch.next(testTime.Add(time.Duration(ms)*time.Millisecond), Auto, layer, rates, estimate); next != layer {
			layer = next
			steps++
		}
	}
	if steps > 26 { // 2+4+8+16+32+32… seconds between steps up, and one down for each
		t.Errorf("%d steps in 5 minutes", steps)
	}
}

// layers feeds rings of one scene: a keyframe each keyEvery frames, at the
// same moments in all.
func layers(n int) []*ring {
	out := make([]*ring, n)
	for i := range out {
		out[i] = newRing(capture.Video)
		out[i].clockRate = 90000
	}
	return out
}

func fillLayers(rings []*ring, from, n int, key func(layer, frame int) bool) {
	for i := from; i < from+n; i++ {
		at := testTime.Add(time.Duration(i) * 33 * time.Millisecond)
		for layer, r := range rings {
			// each ring's RTP time has a base of its own, as sources may have it
			r.write(&capture.Frame{RTPTime: uint32(layer)*1e6 + uint32(i)*2970, Keyframe: key(layer, i), Captured: at, Payloads: [][]byte{[]byte(fmt.Sprintf("layer %d frame %d", layer, i))}}, at)
		}
	}
}

func TestLaneSwitchesAtAKeyframe(t *testing.T) {
	rings := layers(2)
	fillLayers(rings, 0, 10, func(layer, i int) bool { return layer == 0 && i == 0 })
	now := testTime.Add(10 * 33 * time.Millisecond)
	l := newLane(rings, 90000, videoFormat, now)
	all, _ := drain(t, l, now)
	l.want = 1
	if !l.follow() {
		t.Fatal("moved without a keyframe newer than what was sent")
	}
	fillLayers(rings, 10, 5, func(layer, i int) bool { return layer == 1 && i == 12 })
	got, _ := drain(t, l, now) // the old layer goes on until the lane looks again
	all = append(all, got...)
	fillLayers(rings, 15, 5, func(layer, i int) bool { return layer == 1 && i == 17 })
	for range 2 {
		l.follow()
		got, _ = drain(t, l, now)
		all = append(all, got...)
	}
	fillLayers(rings, 20, 5, func(layer, i int) bool { return layer == 0 && i == 22 })
	l.want = 0
	l.follow()
	got, _ = drain(t, l, now)
	all = append(all, got...)

	var names []string
	for i, p := range all {
		names = append(names, string(p.Payload))
		if i == 0 {
			continue
		}
		before := all[i-1]
		if p.SequenceNumber != before.SequenceNumber+1 || p.SSRC != before.SSRC {
			t.Fatalf("%q: sequence number %d after %d", p.Payload, p.SequenceNumber, before.SequenceNumber)
		}
		if d := int32(p.Timestamp - before.Timestamp); d <= 0 || d > 6*3000 { // three frames, and three that are a burst
			t.Fatalf("%q: %d ticks after %q", p.Payload, d, before.Payload)
		}
	}
	want := "layer 0 frame 14"
	if names[14] != want || names[15] != "layer 1 frame 17" || names[len(names)-1] != "layer 0 frame 24" {
		t.Errorf("sent %q", names)
	}
	// what was sent of each layer can be sent again
	for _, p := range all {
		var b batch
		if !l.resend(p.SequenceNumber, &b) {
			t.Fatalf("%q is not sent again", p.Payload)
		}
		again := parse(t, &b)[0]
		if string(again.Payload[2:]) != string(p.Payload) || again.Timestamp != p.Timestamp {
			t.Errorf("sent again %q, want %q", again.Payload[2:], p.Payload)
		}
	}
}

// The layers of one picture come one after the other: the wanted layer's
// keyframe is of the picture that was sent last, of the old layer, and will
// always be. The lane must take it.
func TestLaneSwitchesToAKeyframeOfThePictureJustSent(t *testing.T) {
	rings := layers(2)
	fillLayers(rings, 0, 5, func(_, i int) bool { return i == 0 })
	now := testTime.Add(5 * 33 * time.Millisecond)
	l := newLane(rings, 90000, videoFormat, now)
	before, _ := drain(t, l, now)
	fillLayers(rings[:1], 5, 1, func(int, int) bool { return false })
	more, _ := drain(t, l, now)
	l.want = 1
	at := testTime.Add(5 * 33 * time.Millisecond)
	rings[1].write(&capture.Frame{RTPTime: 77, Keyframe: true, Captured: at, Payloads: [][]byte{[]byte("key")}}, at)
	if l.follow() || l.layer != 1 {
		t.Fatal("it waits on")
	}
	got, _ := drain(t, l, now)
	last := append(before, more...)[len(before)+len(more)-1]
	if len(got) != 1 || got[0].Timestamp-last.Timestamp != 1 {
		t.Errorf("%v after %v", got, last)
	}
	// a keyframe of long ago is not taken
	rings[0].write(&capture.Frame{RTPTime: 78, Keyframe: true, Captured: at.Add(-time.Second), Payloads: [][]byte{[]byte("old")}}, at)
	l.want = 0
	if !l.follow() {
		t.Error("it went back a second")
	}
}

// The source is told which layers are needed, and not at once when they are
// not.
func TestLayersAreDemanded(t *testing.T) {
	v, _ := bareViewer(t)
	st := v.stream
	var told []string
	st.OnDemand(func(layer int, wanted bool) { told = append(told, fmt.Sprint(layer, wanted)) })
	tracks := []capture.Track{
		{Kind: capture.Video, Codec: capture.H264, ClockRate: 90000}, {Kind: capture.Video, Layer: 1, Codec: capture.H264, ClockRate: 90000},
	}
	st.Describe(tracks)
	rings := []*ring{st.feeds[0].ring, st.feeds[1].ring}
	v.quality = Auto
	v.lanes = []*lane{newLane(rings, 90000, videoFormat, testTime)}
	now := testTime
	pass := func(d time.Duration) { now = now.Add(d); st.demandLayers([]*Viewer{v}, now) }
	pass(0)
	pass(time.Hour)
	if len(told) != 0 {
		t.Fatalf("told %v before any rate is known", told)
	}
	fillLayers(rings, 0, 100, func(_, i int) bool { return i == 0 })
	pass(time.Second)
	v.lanes[0].want = 1
	pass(time.Second)
	v.lanes[0].want = 0
	pass(spareAfter - time.Millisecond)
	pass(time.Hour)
	if fmt.Sprint(told) != "[1 false 1 true 1 false]" {
		t.Errorf("told %v", told)
	}
	v.quality = Off
	pass(time.Hour)
	if told[len(told)-1] != "0 false" {
		t.Errorf("told %v with nobody looking", told)
	}
}
