package bwe

import "time"

const (
	beta        = 0.9 // of what the path delivers while its queue stands
	betaBlind   = 0.85
	growth      = 1.08 // a second, far from the ceiling
	nearLeast   = 0.8  // of the ceiling: additive increase from here
	nearMost    = 1.1  // … to here
	nearFor     = time.Minute
	growPacket  = 1200 * 8               // bits a response time, near the ceiling (draft-ietf-rmcat-gcc-02 §5.5)
	growDelay   = 100 * time.Millisecond // of the control loop besides the round trip
	standLeast  = 15 * time.Millisecond  // a queue that stands below this is none
	riseHigh    = 100 * time.Millisecond
	patient     = 250 * time.Millisecond
	standHigh   = 50 * time.Millisecond
	reviseFor   = time.Second
	reviseRest  = 2500 * time.Millisecond // a path that needs cuts more often than this is not back
	arriveLong  = time.Second
	arriveShort = 500 * time.Millisecond
	busyLeast   = 100 * time.Millisecond
	keep        = 0.95 // of what arrived without a queue: the path takes at least this
)

// control moves the rate after a feedback.
func (e *Estimator) control(t time.Duration) {
	e.age(t)
	current, known := e.arriving(arriveLong, arriveShort)
	if known {
		e.peak = max(e.peak, current)
	}
	e.delayed = e.overused(t)
	switch {
	case e.delayed:
		e.cutTo(t, e.capacity())
	case e.trend.use == normal:
		e.grow(t)
	}
	if known && !e.delayed && e.standing() < standHigh {
		e.rate = max(e.rate, keep*current)
	}
	if !e.delayed && e.revisable && t-e.cut < reviseFor {
		e.revise()
	}
	e.raised = t
	if p, ok := e.loss.window(t); ok {
		e.lossy(t, p, e.capacity())
	}
	e.bound()
}

// overused: the unexplained delay grows, and its floor is up. A large queue that
// grew at once, within a frame even, need not wait for the trend to show. A small one is left for a
// moment to those who share the bottleneck and raised their rate just before.
func (e *Estimator) overused(t time.Duration) bool {
	queue, _ := e.unexplained.value()
	queue -= e.trend.noise
	if e.trend.last > 0 && queue > standHigh && e.trend.rise() > riseHigh {
		return true
	}
	if queue > standHigh && e.group.stretch() > riseHigh {
		return true // one frame shows it
	}
	if e.trend.use != over || queue <= standLeast {
		e.overSince = 0
		return false
	}
	if e.overSince == 0 {
		e.overSince = t
	}
	return t-e.overSince >= patient || e.probe.raised(t) || queue > standHigh
}

// arriving is the rate at which packets arrived in the last span, at most back
// to the last cut: what was before is of another path.
func (e *Estimator) arriving(span, least time.Duration) (float64, bool) {
	if e.delivered.n == 0 {
		return 0, false
	}
	return e.delivered.since(max(e.delivered.newest().last-span, e.cutArrive), least)
}

// capacity is what the path delivered while its queue stood; 0 if that cannot be told.
func (e *Estimator) capacity() float64 {
	if e.delivered.n == 0 {
		return 0
	}
	busy := max(e.trend.busy(), e.delivered.newest().last-arriveShort)
	return e.delivered.most(busy, e.span(), 2*e.span())
}

// revise raises the rate again when the queue drains faster after a cut than
// was measured at it: the path stood still for a moment and is back.
func (e *Estimator) revise() {
	if r := e.delivered.most(e.cutArrive, e.span(), 0); beta*r > e.rate {
		e.rate, e.peak, e.ceiling = beta*r, max(e.peak, r), r
	}
}

// span is the time over which a rate of arrival is measured at least.
func (e *Estimator) span() time.Duration { return max(busyLeast, 4*e.trend.noise) }

// cutTo lowers the rate because the path delivers no more than capacity.
func (e *Estimator) cutTo(t time.Duration, capacity float64) {
	next := beta * capacity
	if capacity <= 0 {
		next = betaBlind * e.rate
	}
	e.probe.hold(t)
	if next = max(next, e.config.Min); next >= e.rate {
		return
	}
	e.rate, e.proven = next, min(e.proven, next)
	if capacity > 0 {
		e.ceiling, e.peak = capacity, min(e.peak, capacity)
	}
	if t-e.cut > reviseFor {
		e.revisable = t-e.cut > reviseRest
	}
	e.cut, e.filled = t, t
	if e.delivered.n > 0 {
		e.cutArrive = e.delivered.newest().last
	}
	e.probe.regret(t)
}

// grow raises the rate by time: little near the ceiling, by a share elsewhere.
func (e *Estimator) grow(t time.Duration) {
	dt := min(t-e.raised, time.Second).Seconds()
	if e.loss.excess > lossHold {
		return
	}
	if near := e.rate / e.ceiling; e.ceiling > 0 && t-e.cut < nearFor && near > nearLeast && near < nearMost {
		e.rate += growPacket * dt / (e.rtt + growDelay).Seconds()
		return
	}
	// dt ≤ 1 s: the chord of the power is within 0.1 % of it
	e.rate *= 1 + (growth-1)*dt
}

const (
	lossHold     = 0.02 // no growth above this
	lossCut      = 0.10 // lower the rate above this (draft-ietf-rmcat-gcc-02 §6)
	lossHeavy    = 0.20 // only what arrives is what the path takes
	lossSudden   = 0.35 // in one window: more than losses in a row explain
	lossMost     = 0.50 // … and that is not known any more
	inherentMost = 0.30
	lossPackets  = 100
	lossFew      = 20
	lossSpan     = time.Second
)

// loss counts what was lost, in windows.
type loss struct {
	received, lost int
	since          time.Duration
	smooth         float64 // of the last windows
	slow           float64 // of some more: losses in a row are no sign of a full path
	inherent       float64 // what the path loses whatever it is sent
	excess         float64 // above that, lately
}

// count counts a packet; not one of a probe, which is there to find out what is lost.
func (l *loss) count(p *record, received, lost int) {
	if p.probe == 0 {
		l.received += received
		l.lost += lost
	}
}

// window ends a window when it tells enough, and gives its share of lost packets.
func (l *loss) window(t time.Duration) (share float64, ok bool) {
	n := l.received + l.lost
	if n <= 0 || n < lossPackets && (n < lossFew || t-l.since < lossSpan) {
		return 0, false
	}
	share = float64(max(l.lost, 0)) / float64(n)
	l.received, l.lost, l.since = 0, 0, t
	return share, true
}

// lossy takes the share of packets lost in a window in which arrived bits/s
// came through. Loss that does not go away with the rate belongs to the path
// and is discounted, unless a queue stands.
func (e *Estimator) lossy(t time.Duration, share, arrived float64) {
	l := &e.loss
	l.smooth += (share - l.smooth) / 2
	l.slow += (share - l.slow) / 4
	limit := lossCut
	if e.standing() > standHigh {
		l.excess, limit = share, lossHold
	} else {
		if share-l.inherent > lossSudden {
			l.slow = share
		}
		l.excess = max(0, min(share, l.slow)-l.inherent)
		weight := 0.05
		if share < l.inherent {
			weight = 0.5
		}
		l.inherent = min(l.inherent+weight*(share-l.inherent), inherentMost)
	}
	if l.excess <= limit {
		return
	}
	next := e.rate * (1 - l.excess/2)
	switch {
	case l.excess > lossMost:
		next, arrived = e.rate/2, 0
	case l.excess > lossHeavy && arrived > 0:
		next = 0
	}
	if next = max(next, arrived, e.config.Min); next < e.rate {
		e.rate, e.proven, e.cut = next, min(e.proven, next), t
		e.probe.hold(t)
		if l.excess > lossHeavy {
			e.filled = t
			e.probe.regret(t)
		}
	}
}
