package data

import "time"

// detail is how many records a viewer gets.
type detail int

const (
	all       detail = iota // each frame's, sent once
	thinned                 // every fourth frame's and each keyframe's, sent once more where lost
	keyframes               // only keyframes', likewise
)

func (d detail) String() string { return [...]string{"all", "thinned", "keyframes"}[d] }

// retransmissions of a record that was lost: with fewer records each counts
// for more, and costs less.
func (d detail) retransmissions() uint32 { return [...]uint32{0, 1, 1}[d] }

// The path's figures from which on a viewer gets less. They must have been
// below half of these for calm before it gets one step more.
const (
	thinLoss, poorLoss = .05, .20
	thinRTT, poorRTT   = 400 * time.Millisecond, time.Second
	calm               = 5 * time.Second

	thinning = 4                     // one frame in so many
	leastGap = 20 * time.Millisecond // between the captures of two frames that have records: at most 50 a second
)

// adapter chooses the detail by the path's loss and round-trip time: less at
// once, more a step at a time. It is pure: it knows what next is told, and
// when.
type adapter struct {
	now   detail
	since time.Time // the path has been calm enough for more; zero: it is not
}

func (a *adapter) next(now time.Time, loss float64, rtt time.Duration) detail {
	fit := func(loss float64, rtt time.Duration) detail {
		switch {
		case loss >= poorLoss || rtt >= poorRTT:
			return keyframes
		case loss >= thinLoss || rtt >= thinRTT:
			return thinned
		}
		return all
	}
	if d := fit(loss, rtt); d > a.now {
		a.now, a.since = d, time.Time{}
		return a.now
	}
	if fit(2*loss, 2*rtt) >= a.now {
		a.since = time.Time{}
		return a.now
	}
	if a.since.IsZero() {
		a.since = now
	}
	if now.Sub(a.since) >= calm {
		a.now, a.since = a.now-1, now
	}
	return a.now
}

// picker chooses the frames that have a record.
type picker struct {
	passed int       // frames since the last one with a record
	last   time.Time // its capture
}

func (p *picker) wants(d detail, f Frame) bool {
	p.passed++
	gap := f.Captured.Sub(p.last)
	if !f.Keyframe && (d == keyframes || d == thinned && p.passed < thinning || gap >= 0 && gap < leastGap) {
		return false
	}
	p.passed, p.last = 0, f.Captured
	return true
}
