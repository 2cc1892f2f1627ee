package forward

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"edged/capture"
)

// A frame in parts: each packet once, in order, at the rate; what waits is sent
// in time; what was sent of it can be sent again.
func TestFrameInParts(t *testing.T) {
	for _, c := range []struct {
		rate float64
		took time.Duration // until the last packet is sent
	}{
		{8e6, 55 * time.Millisecond}, // 64 kB, less a burst of 10 ms
		{1e6, paceMost},
		{1e3, paceMost},
	} {
		r := newRing(capture.Video)
		big := capture.Frame{Keyframe: true}
		for i := range 60 {
			p := make([]byte, 1040)
			p[0] = byte(i)
			big.Payloads = append(big.Payloads, p)
		}
		r.write(&big, testTime)
		r.write(&capture.Frame{RTPTime: 3000, Payloads: [][]byte{{200}}}, testTime)
		l := newLane([]*ring{r}, 90000, videoFormat, testTime)
		var got []byte
		var last time.Duration
		for d := time.Duration(0); d < time.Second; d += paceStep {
			for {
				now := testTime.Add(d)
				f, _, ok := l.pick(now)
				if !ok {
					break
				}
				end := l.pace(f, now, c.rate, paceMost)
				if end == l.part {
					break
				}
				var b batch
				l.buildTo(f, end, &b)
				for _, p := range parse(t, &b) {
					if want := len(got) == 59 || len(got) == 60; p.Marker != want {
						t.Errorf("packet %d: marker %v", len(got), p.Marker)
					}
					got, last = append(got, p.Payload[0]), d
					checkAgain(t, l, p)
				}
				if l.part > 0 && l.follow() {
					t.Fatal("left in the middle of a frame")
				}
			}
		}
		want := make([]byte, 61)
		for i := range want {
			want[i] = byte(i)
		}
		want[60] = 200
		if string(got) != string(want) || last > c.took+paceStep || last < c.took-15*time.Millisecond {
			t.Errorf("%.0f bit/s: sent %v by %v, want %v", c.rate, got, last, c.took)
		}
		if !l.pacer.since.IsZero() {
			t.Errorf("%.0f bit/s: something waits still", c.rate)
		}
	}
}

// A lane that goes to another keyframe in the middle of a frame begins that
// whole, and knows what it has sent of the other.
func TestFrameLeftInTheMiddle(t *testing.T) {
	r := newRing(capture.Video)
	layered(r, 0, 1, capture.Frame{Keyframe: true})
	l := newLane([]*ring{r}, 90000, videoFormat, testTime)
	var b batch
	f, _, _ := l.pick(testTime)
	l.buildTo(f, 2, &b)
	sent := parse(t, &b)
	layered(r, 1, 1, capture.Frame{Keyframe: true})
	l.wait(testTime)
	l.next++ // as if that keyframe had been lost
	got, _ := drain(t, l, testTime)
	if len(got) != 3 || string(got[0].Payload) != "1.0" || got[0].SequenceNumber != sent[1].SequenceNumber+1 {
		t.Fatalf("%v", got)
	}
	for _, p := range append(sent, got...) {
		checkAgain(t, l, p)
	}
}

func TestWhoIsPaced(t *testing.T) {
	v, _ := bareViewer(t)
	v.log = v.sfu.log
	l := v.lanes[0]
	numberPackets(v, 3)
	at := func(s string) { a := netip.MustParseAddrPort(s); v.remote.Store(&a) }
	for _, c := range []struct {
		remote string
		heard  bool
		rung   int
		want   string
	}{
		{"192.168.1.7:9", false, 0, "0 0s"},
		{"[fe80::1%lo]:9", false, 0, "0 0s"},
		{"203.0.113.9:9", false, 0, "1e+07 250ms"},
		{"203.0.113.9:9", true, 0, "0 0s"},
		{"192.168.1.7:9", true, rungKeys, "5e+06 4s"},
	} {
		at(c.remote)
		v.heard, l.rung = c.heard, c.rung
		rate, most := v.paceRate(l, v.remote.Load(), testTime)
		if got := fmt.Sprint(rate, most); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
	if rate, _ := v.paceRate(l, nil, testTime); rate != 0 {
		t.Error("a path that has a queue of its own is paced")
	}
}
