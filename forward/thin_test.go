package forward

import (
	"fmt"
	"testing"
	"time"

	"edged/capture"

	"github.com/pion/rtp"
)

func TestRanks(t *testing.T) {
	for _, c := range []struct {
		frame capture.Frame
		want  uint8
	}{
		{capture.Frame{Keyframe: true, Discardable: true, Temporal: 2}, rankKey},
		{capture.Frame{}, rankBase},
		{capture.Frame{Discardable: true}, 2},
		{capture.Frame{Temporal: 1}, 2},
		{capture.Frame{Temporal: 1, Discardable: true}, 3},
		{capture.Frame{Temporal: 2}, 3},
		{capture.Frame{Temporal: 255, Discardable: true}, rankMost},
	} {
		if got := rankOf(&c.frame); got != c.want {
			t.Errorf("%+v: rank %d, want %d", c.frame, got, c.want)
		}
	}
	var r ranks
	for range 3000 { // more than is remembered
		r.add(frame{rank: rankBase, size: 600})
		r.add(frame{rank: 2, size: 300})
		r.add(frame{rank: 3, size: 100})
	}
	if got := fmt.Sprintf("%.2f", r.rates(1)); got != "[1.00 0.90 0.60 1.00]" {
		t.Errorf("rates %v", got)
	}
	var alone ranks
	alone.add(frame{rank: rankBase, size: 600})
	if got := fmt.Sprintf("%.0f", alone.rates(1e6)); got != "[1000000 0 0 25000]" {
		t.Errorf("rates without discardable frames %v", got)
	}
}

func TestThinnerTable(t *testing.T) {
	full, alone := []float64{2.5e6, 2e6, 1e6, 25e3}, []float64{2.5e6, 0, 0, 25e3}
	for _, c := range []struct {
		name     string
		rung     int
		rates    []float64
		estimate float64
		full     bool
		want     int
	}{
		{"enough", 0, full, 3e6, true, 0},
		{"estimated too narrow, not found full", 0, full, 1.5e6, false, 0},
		{"too narrow for the highest rank", 0, full, 2.2e6, true, 1},
		{"too narrow for two", 0, full, 1.5e6, true, 2},
		{"too narrow for the base", 0, full, 0.5e6, true, rungKeys},
		{"nothing discardable", 0, alone, 2.2e6, true, rungKeys},
		{"never below keyframes", rungKeys, alone, 1, true, rungKeys},
		{"up is not at once", rungKeys, alone, 9e6, false, rungKeys},
		{"a rung that the camera has no more", 1, alone, 3e6, false, 0},
		{"nothing is known of the camera", 2, []float64{0, 0, 0, 0}, 1, true, 2},
	} {
		var th thinner
		if got := th.next(testTime, c.rung, c.rates, c.estimate, c.full, 0); got != c.want || th.draining {
			t.Errorf("%s: rung %d, want %d; draining %v", c.name, got, c.want, th.draining)
		}
	}
}

// Down at once, up a step at a time, and more and more seldom where it fails.
func TestThinnerFollowsATrace(t *testing.T) {
	rates := []float64{2.5e6, 2e6, 1e6, 25e3}
	var th thinner
	rung, steps := 0, 0
	at := map[int]time.Duration{}
	for d := time.Duration(0); d < 30*time.Second; d += thinEvery {
		estimate := 5e6
		if d >= 5*time.Second && d < 15*time.Second {
			estimate = 300e3
		}
		if next := th.next(testTime.Add(d), rung, rates, estimate, estimate < 1e6, 0); next != rung {
			rung, at[next], steps = next, d, steps+1
		}
	}
	if at[rungKeys] != 5*time.Second || at[2] != 17*time.Second || at[1] != 19100*time.Millisecond || at[0] != 21200*time.Millisecond || steps != 4 {
		t.Errorf("rungs at %v", at)
	}
	steps = 0
	for d := time.Hour; d < time.Hour+5*time.Minute; d += thinEvery {
		next := th.next(testTime.Add(d), rung, []float64{2.5e6, 0, 0, 25e3}, map[bool]float64{true: 1e6, false: 4e6}[rung == 0], true, 0)
		if next != rung {
			rung, steps = next, steps+1
		}
	}
	if steps > 26 {
		t.Errorf("%d steps in five minutes", steps)
	}
}

func TestThinnerDrains(t *testing.T) {
	rates := []float64{2.5e6, 0, 0, 25e3}
	var th thinner
	next := func(d, backlog time.Duration) bool {
		if rung := th.next(testTime.Add(d), 0, rates, 5e6, true, backlog); rung != 0 {
			t.Errorf("rung %d", rung)
		}
		return th.draining
	}
	for i, c := range []struct {
		at, backlog time.Duration
		want        bool
	}{
		{0, drainFrom, false},
		{1 * time.Second, drainFrom + 1, true},
		{2 * time.Second, drainTo + 1, true},
		{3 * time.Second, drainTo, false},
		{4 * time.Second, time.Hour, false},                       // so soon again it is no queue
		{1*time.Second + drainRest, time.Hour, true},              //
		{2*time.Second + drainRest, time.Hour, true},              //
		{1*time.Second + drainRest + drainMost, time.Hour, false}, // ask the path
	} {
		if got := next(c.at, c.backlog); got != c.want {
			t.Errorf("%d: draining %v", i, got)
		}
	}
}

// layered writes frames whose ranks repeat, each of three packets.
func layered(r *ring, from, n int, frames ...capture.Frame) {
	for i := from; i < from+n; i++ {
		f := frames[i%len(frames)]
		f.RTPTime, f.Captured = uint32(i)*3000, testTime.Add(time.Duration(i)*33*time.Millisecond)
		for p := range 3 {
			f.Payloads = append(f.Payloads, []byte(fmt.Sprintf("%d.%d", i, p)))
		}
		r.write(&f, f.Captured)
	}
}

// What is left out leaves no hole in the sequence numbers and none but its own
// time in the times, and what is sent can be sent again.
func TestLaneLeavesFramesOut(t *testing.T) {
	r := newRing(capture.Video)
	layered(r, 0, 1, capture.Frame{Keyframe: true})
	l := newLane([]*ring{r}, 90000, videoFormat, testTime)
	l.rung = 2
	now := testTime.Add(burstWait)
	all, _ := drain(t, l, now)
	layered(r, 1, 20, capture.Frame{}, capture.Frame{Discardable: true})
	more, skipped := drain(t, l, now)
	all = append(all, more...)
	if len(all) != 33 || l.left != 10 || skipped != 0 {
		t.Fatalf("%d packets, %d frames left out, %d skipped", len(all), l.left, skipped)
	}
	for i, p := range all {
		if want := fmt.Sprintf("%d.%d", i/3*2, i%3); string(p.Payload) != want || p.SequenceNumber != all[0].SequenceNumber+uint16(i) || p.Timestamp != all[0].Timestamp+uint32(i/3)*6000 {
			t.Fatalf("packet %d: %q, %v", i, p.Payload, p.Header)
		}
		checkAgain(t, l, p)
	}
	l.rung = 0 // at once: nothing refers to what was left out
	layered(r, 21, 2, capture.Frame{}, capture.Frame{Discardable: true})
	if got, _ := drain(t, l, now); len(got) != 6 || string(got[0].Payload) != "21.0" {
		t.Errorf("%v", got)
	}
}

func checkAgain(t *testing.T, l *lane, p *rtp.Packet) {
	t.Helper()
	var b batch
	if !l.resend(p.SequenceNumber, &b) {
		t.Fatalf("%q is not sent again", p.Payload)
	}
	if again := parse(t, &b)[0]; string(again.Payload[2:]) != string(p.Payload) || again.Timestamp != p.Timestamp || again.Marker != p.Marker {
		t.Errorf("sent again %q at %d, want %q at %d", again.Payload[2:], again.Timestamp, p.Payload, p.Timestamp)
	}
}

// A temporal layer that was left out comes back at a keyframe: what is left of
// it refers to what is not there.
func TestLaneWaitsWithATemporalLayer(t *testing.T) {
	r := newRing(capture.Video)
	pattern := []capture.Frame{{}, {Temporal: 1}}
	layered(r, 0, 1, capture.Frame{Keyframe: true})
	l := newLane([]*ring{r}, 90000, videoFormat, testTime)
	now := testTime.Add(burstWait)
	count := func() int { got, _ := drain(t, l, now); return len(got) / 3 }
	count()
	l.rung = 2
	layered(r, 2, 10, pattern...)
	if n := count(); n != 5 {
		t.Errorf("%d frames of the base", n)
	}
	l.rung = 0
	layered(r, 12, 10, pattern...)
	if n := count(); n != 5 || l.wantsKey(now) {
		t.Errorf("%d frames before a keyframe", n)
	}
	layered(r, 22, 1, capture.Frame{Keyframe: true})
	layered(r, 24, 10, pattern...)
	if n := count(); n != 11 {
		t.Errorf("%d frames from the keyframe on", n)
	}
}

// Keyframes only, at the pace that the path carries; an old one is not sent.
func TestLaneSendsKeyframesOnly(t *testing.T) {
	r := newRing(capture.Video)
	layered(r, 0, 1, capture.Frame{Keyframe: true})
	l := newLane([]*ring{r}, 90000, videoFormat, testTime)
	l.rung, l.keyRate = rungKeys, 1e6
	now := testTime
	look := func(at time.Duration) (sent []string) {
		now = testTime.Add(at)
		for {
			f, _, ok := l.pick(now)
			if !ok {
				return sent
			}
			var b batch
			l.tookKey(f, now)
			l.build(f, &b)
			sent = append(sent, string(parse(t, &b)[0].Payload))
		}
	}
	at := func(frame int) time.Duration { return time.Duration(frame) * 33 * time.Millisecond }
	key := capture.Frame{Keyframe: true}
	if got := fmt.Sprint(look(0)); got != "[0.0]" {
		t.Fatalf("sent %v", got)
	}
	layered(r, 1, 9, capture.Frame{})
	layered(r, 10, 1, key)
	if got := look(at(10)); got != nil || l.wantsKey(now) {
		t.Errorf("a third of a second later: sent %v", got)
	}
	layered(r, 11, 20, capture.Frame{})
	if got := fmt.Sprint(look(keyLeast)); got != "[10.0]" {
		t.Errorf("after a second: sent %v", got)
	}
	layered(r, 31, 1, key) // at 1.02 s
	layered(r, 32, 40, capture.Frame{})
	if got := look(at(31) + behindLimit); got != nil || l.next != 73 {
		t.Errorf("sent %v, a second old; next is %d", got, l.next)
	}
	if l.wantsKey(testTime.Add(at(31)+keyAsk-1)) || !l.wantsKey(testTime.Add(at(31)+keyAsk)) {
		t.Error("a keyframe is asked for when the newest is two seconds old")
	}
	layered(r, 72, 1, key)
	if got := fmt.Sprint(look(at(72))); got != "[72.0]" {
		t.Errorf("sent %v", got)
	}
	l.rung = rungAll
	layered(r, 73, 5, capture.Frame{})
	if got := fmt.Sprint(look(at(78))); got != "[73.0 74.0 75.0 76.0 77.0]" {
		t.Errorf("from a keyframe that was sent the rest follows: %v", got)
	}
}

// Whatever is left out, sent in parts or given up: sequence numbers rise by
// one, and nothing is sent that refers to what was not.
func FuzzThinnedLane(f *testing.F) {
	f.Add([]byte{0, 10, 3, 12, 1, 14, 40, 5, 9, 200, 17, 3, 0, 77, 250})
	f.Add([]byte{7, 0, 15, 8, 23, 16, 31, 24, 6, 6, 6, 6, 14, 22, 5, 13, 21, 29})
	f.Fuzz(func(t *testing.T, script []byte) {
		r := newRing(capture.Video)
		l := newLane([]*ring{r}, 90000, videoFormat, testTime)
		l.keyRate = 1e6
		now := testTime
		var frames []capture.Frame // by number, from 1 on
		sent := map[uint64]bool{}
		var newestKey uint64
		seq := l.seq
		for _, op := range script {
			now = now.Add(33 * time.Millisecond)
			switch arg := int(op >> 3); op % 8 {
			case 0, 1, 2: // a frame
				fr := capture.Frame{RTPTime: uint32(len(frames)) * 3000, Captured: now, Keyframe: arg%7 == 0, Discardable: arg%2 == 1, Temporal: uint8(arg % 4)}
				for range arg%5 + 1 {
					fr.Payloads = append(fr.Payloads, []byte{1, 2, 3})
				}
				frames = append(frames, fr)
				r.write(&fr, now)
			case 3:
				l.rung = arg % rungs
			case 4:
				l.thinner.draining = arg%2 == 0
				l.broken = rankBase
			case 5:
				now = now.Add(time.Duration(arg) * 50 * time.Millisecond)
			case 6:
				if l.started {
					l.wait(now)
				}
			case 7: // a packet again
				var b batch
				l.resend(uint16(l.seq)-uint16(arg), &b)
			}
			fr, _, ok := l.pick(now)
			if !ok {
				continue
			}
			if fr.keyframe {
				l.tookKey(fr, now)
				newestKey = fr.number
			}
			for n := newestKey; n < fr.number; n++ {
				if g := &frames[n-1]; !sent[n] && rankOf(g) < fr.rank {
					t.Fatalf("frame %d of rank %d without frame %d of rank %d", fr.number, fr.rank, n, rankOf(g))
				}
			}
			var b batch
			end := min(fr.count, l.part+1+int(op)%3)
			l.buildTo(fr, end, &b)
			sent[fr.number] = true
			for _, p := range parse(t, &b) {
				if p.SequenceNumber != uint16(seq) {
					t.Fatalf("sequence number %d, want %d", p.SequenceNumber, uint16(seq))
				}
				seq++
			}
		}
	})
}
