//go:build !race

// The race detector has sync.Pool forget at random.

package forward

import (
	"testing"
	"time"
)

// With all of it on, a frame allocates nothing.
func TestEverythingAllocatesNothing(t *testing.T) {
	x := newEverything(t)
	for range ringPackets/len(x.payloads) + 1 { // the ring has its buffers, the estimator its history
		x.frame()
	}
	if n := testing.AllocsPerRun(1000, x.frame); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
	c := x.v.counts
	if c.FEC < 1000 || c.RTX < 1000 || c.RTT < 90*time.Millisecond || !x.v.heard || x.v.estimate() < firstEstimate/2 {
		t.Errorf("not everything is on: %+v, estimate %v", c, x.v.estimate())
	}
}
