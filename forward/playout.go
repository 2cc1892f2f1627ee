package forward

import "time"

// A viewer on a good path is told to show a picture as soon as it is decoded.
// On one that loses packets each loss would then be a jerk, and on one with
// jitter every frame; so there it is told to wait for what is sent again, and
// no longer than that.
const (
	playoutStep = 10 * time.Millisecond // of the extension
	playoutMost = 250 * time.Millisecond

	someLoss, muchLoss = 0.01, 0.04

	oneRound  = 80 * time.Millisecond  // until the next frame shows a loss, and the copy leaves with another; and the round trip
	twoRounds = 120 * time.Millisecond // and two round trips

	someJitter   = 10 * time.Millisecond // less is hidden by a screen's refresh
	jitterFactor = 3                     // of the mean change from frame to frame

	playoutHold = 20 * time.Second // without a reason, before it falls
	playoutFall = time.Second      // a step so often
)

// playoutNeed is the playout delay with which a path's losses and jitter are
// not seen.
func playoutNeed(loss float64, rtt, jitter time.Duration) (need time.Duration) {
	switch {
	case loss >= muchLoss:
		need = 2*rtt + twoRounds
	case loss >= someLoss:
		need = rtt + oneRound
	}
	if jitter >= someJitter {
		need = max(need, jitterFactor*jitter)
	}
	return min((need + playoutStep - 1).Truncate(playoutStep), playoutMost)
}

// playout is the least playout delay of a viewer. It is pure.
type playout struct {
	least  time.Duration
	lately time.Time // when it was needed, or fell, last
}

// next takes what is needed now. It rises at once, and falls slowly: each
// change makes the picture run a little faster or slower for a while.
func (p *playout) next(now time.Time, need time.Duration) time.Duration {
	switch {
	case need >= p.least:
		p.least, p.lately = need, now
	case now.Sub(p.lately) >= playoutHold:
		p.least -= playoutStep
		p.lately = now.Add(playoutFall - playoutHold)
	}
	return p.least
}

// setPlayout lets the packets from now on say the playout delay; v.mu is held.
func (v *Viewer) setPlayout(now time.Time) {
	before := v.playout.least
	least := v.playout.next(now, playoutNeed(v.bandwidth.Loss(), v.bandwidth.RoundTrip(), v.bandwidth.Jitter()))
	if least == before {
		return
	}
	for _, l := range v.lanes {
		l.layout.setPlayout(least, playoutLimit)
	}
}
