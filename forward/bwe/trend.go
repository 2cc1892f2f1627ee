package bwe

import (
	"math"
	"time"
)

const (
	groupSpan  = 5 * time.Millisecond // packets sent within this are one group (draft-ietf-rmcat-gcc-02 §5.2)
	groupMost  = 100 * time.Millisecond
	clockJump  = 3 * time.Second // the viewer's clock moved, not the delay
	clockSlack = 50 * time.Millisecond
	trendLen   = 20 // groups
	trendSpan  = time.Second
	trendLeast = 5
	trendMost  = 4 * time.Second // for so many groups
	smoothing  = 0.9
	gain       = 4.0
	gainMost   = 60

	thresholdStart = 12.5 // draft-ietf-rmcat-gcc-02 §5.4
	thresholdLeast = 6.0
	thresholdMost  = 600.0
	thresholdUp    = 0.0087
	thresholdDown  = 0.039
	thresholdSkip  = 15.0
	noiseLen       = 32                    // groups
	noiseMost      = 50 * time.Millisecond // of one change: more is a queue
	overTime       = 10 * time.Millisecond
)

// group is the packets sent in one burst.
type group struct {
	open          bool
	first, last   time.Duration // sent
	begin, arrive time.Duration // arrived
	queued        time.Duration // of the last packet, in the virtual queue
	before        time.Duration // of the first

	held bool // the one before
	prev struct{ last, arrive, queued time.Duration }
}

// gap is how much later a group arrived than the one before, less how much
// later it was sent, less what the virtual queue explains.
type gap struct {
	arrive time.Duration // of the newer group
	delay  time.Duration // one-way delay of the newer group, with an unknown constant
	excess time.Duration
}

// add takes a packet that arrived and says when it completes a pair of groups.
func (g *group) add(sent, arrive, queued time.Duration) (d gap, ok bool) {
	switch {
	case !g.open:
	case sent < g.first:
		return d, false // reported late: its group is closed
	case sent-g.first <= groupSpan, g.burst(sent, arrive):
		g.last, g.queued = max(g.last, sent), queued
		g.arrive = max(g.arrive, arrive)
		return d, false
	default:
		if g.held {
			d = gap{arrive: g.arrive, delay: g.arrive - g.last}
			d.excess = (g.arrive - g.prev.arrive) - (g.last - g.prev.last) - (g.queued - g.prev.queued)
			ok = true
		}
		g.held, g.prev.last, g.prev.arrive, g.prev.queued = true, g.last, g.arrive, g.queued
	}
	g.open, g.first, g.last, g.begin, g.arrive, g.queued, g.before = true, sent, sent, arrive, arrive, queued, queued
	return d, ok
}

// stretch is how much longer the open group takes to arrive than it took to be
// sent and than the virtual queue explains.
func (g *group) stretch() time.Duration {
	return (g.arrive - g.begin) - (g.last - g.first) - (g.queued - g.before)
}

// burst: packets that were held up on the way and arrive at once belong together.
func (g *group) burst(sent, arrive time.Duration) bool {
	gap := arrive - g.arrive
	return gap <= groupSpan && gap < sent-g.last && arrive-g.begin < groupMost
}

type use uint8

const (
	normal use = iota
	over
	under
)

// trend tells from the slope of the unexplained delay whether a queue grows.
type trend struct {
	x, y      [trendLen]float64       // ms: arrival, smoothed delay; a ring
	arrive    [trendLen]time.Duration // arrival
	delay     [trendLen]time.Duration // one-way delay, for busy
	sums      [trendLen]float64       // ms: delay before smoothing, for rise
	n, head   int
	gaps      int
	origin    time.Duration
	sum       float64
	smoothed  float64
	threshold float64
	updated   time.Duration
	rising    time.Duration
	risen     int
	last      float64
	noise     time.Duration // mean change of the unexplained delay from group to group
	use       use
}

func (t *trend) reset() { *t = trend{threshold: thresholdStart} }

// add takes the next pair of groups.
func (t *trend) add(d gap) {
	if t.gaps == 0 {
		t.origin, t.updated = d.arrive, d.arrive
	}
	t.gaps = min(t.gaps+1, 1000)
	excess := ms(d.excess)
	t.sum += excess
	t.noise += (min(d.excess.Abs(), noiseMost) - t.noise) / noiseLen
	t.smoothed = smoothing*t.smoothed + (1-smoothing)*t.sum
	t.head = (t.head + 1) % trendLen
	t.n = min(t.n+1, trendLen)
	t.x[t.head], t.y[t.head] = ms(d.arrive-t.origin), t.smoothed
	t.arrive[t.head], t.delay[t.head], t.sums[t.head] = d.arrive, d.delay, t.sum
	slope, ok := t.slope(d.arrive)
	if !ok {
		t.use = normal
		return
	}
	t.detect(slope, d.arrive)
}

// slope is the least-squares slope of the smoothed delay, ms a ms.
func (t *trend) slope(newest time.Duration) (float64, bool) {
	var n, sx, sy float64
	span := trendSpan
	if t.n >= trendLeast { // large frames on a slow path: few groups a second
		span = max(span, min(newest-t.arrive[(t.head+trendLen-trendLeast+1)%trendLen], trendMost))
	}
	least := ms(newest - t.origin - span)
	for i := range t.n {
		if j := (t.head + trendLen - i) % trendLen; t.x[j] >= least {
			n, sx, sy = n+1, sx+t.x[j], sy+t.y[j]
		}
	}
	if n < trendLeast {
		return 0, false
	}
	mx, my := sx/n, sy/n
	var num, den float64
	for i := range t.n {
		if j := (t.head + trendLen - i) % trendLen; t.x[j] >= least {
			num += (t.x[j] - mx) * (t.y[j] - my)
			den += (t.x[j] - mx) * (t.x[j] - mx)
		}
	}
	if den == 0 {
		return 0, false
	}
	return num / den, true
}

// detect compares the slope with the threshold, and adapts that.
func (t *trend) detect(slope float64, now time.Duration) {
	m := slope * float64(min(t.gaps, gainMost)) * gain
	dt := min(max(now-t.updated, 0), 100*time.Millisecond)
	switch {
	case m > t.threshold:
		t.rising += dt
		t.risen++
		if t.rising > overTime && t.risen > 1 && slope >= t.last {
			t.rising, t.risen, t.use = 0, 0, over
		}
	case m < -t.threshold:
		t.rising, t.risen, t.use = 0, 0, under
	default:
		t.rising, t.risen, t.use = 0, 0, normal
	}
	t.last, t.updated = slope, now
	if a := math.Abs(m); a <= t.threshold+thresholdSkip {
		k := thresholdDown
		if a > t.threshold {
			k = thresholdUp
		}
		t.threshold += k * (a - t.threshold) * ms(dt)
		t.threshold = min(max(t.threshold, thresholdLeast), thresholdMost)
	}
}

// rise is how much the unexplained delay rose above its least in the window.
func (t *trend) rise() time.Duration {
	least := t.sum
	for i := range t.n {
		least = min(least, t.sums[i])
	}
	return time.Duration((t.sum - least) * float64(time.Millisecond))
}

// busy is when the queue that stands began to: the arrival of the latest group
// that saw about the least delay of the window.
func (t *trend) busy() time.Duration {
	if t.n == 0 {
		return 0
	}
	least, newest := t.delay[t.head], t.delay[t.head]
	for i := range t.n {
		least = min(least, t.delay[(t.head+trendLen-i)%trendLen])
	}
	near := least + max(5*time.Millisecond, (newest-least)/10)
	for i := range t.n {
		if j := (t.head + trendLen - i) % trendLen; t.delay[j] <= near {
			return t.arrive[j]
		}
	}
	return t.arrive[t.head]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
