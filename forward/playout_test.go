package forward

import (
	"testing"
	"time"
)

func TestPlayoutNeed(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		loss              float64
		rtt, jitter, want time.Duration
	}{
		{0, 40 * ms, 0, 0},
		{.005, 40 * ms, 5 * ms, 0},
		{.02, 42 * ms, 0, 130 * ms}, // rounded up
		{.05, 40 * ms, 0, 200 * ms},
		{.5, time.Second, 50 * ms, playoutMost},
		{0, 40 * ms, 25 * ms, 80 * ms},
		{.02, 40 * ms, 25 * ms, 120 * ms},
	} {
		if got := playoutNeed(c.loss, c.rtt, c.jitter); got != c.want {
			t.Errorf("%v lost, round trip %v, jitter %v: %v, want %v", c.loss, c.rtt, c.jitter, got, c.want)
		}
	}
}

func TestPlayoutRisesAtOnceAndFallsSlowly(t *testing.T) {
	var p playout
	for _, c := range []struct {
		at         time.Duration
		need, want time.Duration
	}{
		{0, 0, 0},
		{time.Second, 100 * time.Millisecond, 100 * time.Millisecond},
		{2 * time.Second, 0, 100 * time.Millisecond},
		{20 * time.Second, 100 * time.Millisecond, 100 * time.Millisecond},
		{39 * time.Second, 0, 100 * time.Millisecond},
		{40 * time.Second, 0, 90 * time.Millisecond},
		{40*time.Second + playoutFall/2, 0, 90 * time.Millisecond},
		{41 * time.Second, 0, 80 * time.Millisecond},
		{42 * time.Second, 200 * time.Millisecond, 200 * time.Millisecond},
	} {
		if got := p.next(testTime.Add(c.at), c.need); got != c.want {
			t.Errorf("%v: %v, want %v", c.at, got, c.want)
		}
	}
}

// The delay goes into the packets from then on, where the extension is
// negotiated, and nowhere else.
func TestPlayoutInPackets(t *testing.T) {
	h := layOut(extensions{number: 3, playout: 5})
	before := h.bytes
	h.setPlayout(120*time.Millisecond, playoutLimit)
	if got := h.bytes[h.playout : h.playout+3]; got[0] != 0 || got[1] != 12<<4 || got[2] != 40 {
		t.Errorf("% x", got)
	}
	h.setPlayout(leastPlayout, playoutLimit)
	if h.bytes != before {
		t.Errorf("% x, want % x", h.bytes, before)
	}
	h = layOut(extensions{number: 3})
	before = h.bytes
	if h.setPlayout(120*time.Millisecond, playoutLimit); h.bytes != before {
		t.Error("written where it is not")
	}
}
