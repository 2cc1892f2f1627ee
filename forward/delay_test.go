package forward

import (
	"testing"
	"time"

	"edged/capture"
)

// The delay of frames is the box's. What a joining viewer is caught up with
// has waited for the viewer, not for the box.
func TestCatchingUpIsNoDelay(t *testing.T) {
	v, r, payloads := path(t, false)
	var b batch
	frame := func(i int) {
		r.write(&capture.Frame{RTPTime: uint32(i) * 3000, Keyframe: i == 0, Payloads: payloads}, time.Now())
	}
	for i := range 20 {
		frame(i)
	}
	observed := func() (n uint64) {
		for _, c := range v.sfu.delay.value().Counts {
			n += c
		}
		return n
	}
	v.pump(&b, time.Now().Add(burstWait))
	b.flush()
	if n := observed(); v.counts.Packets != 20*9 || n != 0 {
		t.Errorf("caught up with %d packets, %d of their frames were late", v.counts.Packets, n)
	}
	frame(20)
	v.pump(&b, time.Now().Add(burstWait))
	b.flush()
	if n := observed(); n != 1 {
		t.Errorf("%d frames observed, want the new one", n)
	}
}
