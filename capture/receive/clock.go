package receive

import (
	"sync"
	"time"

	"github.com/pion/rtp"
)

const (
	// ntpTrust is how old a frame may be by the camera's own clock; older, or
	// of the future, that clock is wrong.
	ntpTrust = 10 * time.Second

	// The time of capture does not jump where one that is better comes to be
	// known: it is brought there, as fast as a share of the time that passes;
	// but a second is too far for that.
	slewShare = 8
	slewMost  = time.Second

	// Before the camera has said when, arrival does; what came quickest counts,
	// and drift is followed.
	driftShare = 1000
)

// Clocks is what the tracks of one session know together of the camera's
// clock: one that is wrong is corrected for all of them alike, so that picture
// and sound stay together.
type Clocks struct {
	mu    sync.Mutex
	known bool
	least time.Duration // from the camera's time of a packet to its arrival, at least
}

// ours is the box's time of a packet's time by the camera. A clock that is
// plausible is right; of another only the differences are.
func (c *Clocks) ours(camera, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	delay := now.Sub(camera)
	if !c.known || delay < c.least {
		c.known, c.least = true, delay
	}
	if c.least >= 0 && delay <= ntpTrust {
		return camera
	}
	if delay-c.least > ntpTrust { // it was set back
		c.least = delay
	}
	return camera.Add(c.least)
}

// Clock says when the packets of one track were captured. Between what it is
// told of by others it runs with the RTP time, which is even where arrival is
// not.
type Clock struct {
	All  *Clocks
	Rate int                                 // Hz
	NTP  func(*rtp.Packet) (time.Time, bool) // by the camera's sender reports; false: none yet
	set  bool
	rtp  uint32    // of the newest packet
	at   time.Time // when that was captured
}

// Captured is when the packet that arrives now was captured.
func (c *Clock) Captured(p *rtp.Packet, now time.Time) time.Time {
	camera, told := time.Time{}, false
	if c.NTP != nil {
		camera, told = c.NTP(p)
	}
	want := now
	if told {
		want = c.All.ours(camera, now)
	}
	passed := time.Duration(int32(p.Timestamp-c.rtp)) * time.Second / time.Duration(max(1, c.Rate))
	at := c.at.Add(passed)
	off := want.Sub(at)
	switch {
	case !c.set, off.Abs() > slewMost && (told || off > 0): // the first, or its clock was reset
		at = want
	case told:
		at = at.Add(limit(off, passed/slewShare))
	case off < 0: // came quicker than any before
		at = want
	default:
		at = at.Add(limit(off, passed/driftShare))
	}
	c.set, c.rtp, c.at = true, p.Timestamp, at
	return at
}

// limit bounds d to most in either direction, or to nothing.
func limit(d, most time.Duration) time.Duration {
	most = max(0, most)
	return max(-most, min(d, most))
}
