// Package bwe estimates, at the sender, what the path to one viewer takes.
//
// It follows draft-ietf-rmcat-gcc-02: groups of packets, the trend of their
// one-way delay against an adaptive threshold, additive and multiplicative
// increase, a bound by loss. It differs where a camera differs from a file:
//
//   - Frames leave in bursts and keyframes are large, so a queue that comes and
//     goes with them is no sign of over-use. Every packet is sent through a
//     virtual queue that is served at the estimate, and only delay which that
//     queue does not explain counts. If the path takes the estimate there is
//     none, whatever the source does.
//   - Over-use must raise the floor of the delay, not only its top: jitter does not.
//   - After over-use the estimate is a share of what the path delivered while
//     its queue stood, which is its capacity, and not of the last half second.
//   - Loss that stays when the rate falls belongs to the path, and is no reason
//     to send less.
//   - A source that sends less than the estimate proves nothing: the estimate is
//     capped by a multiple of what arrived lately and by what probes proved.
//
// The way of a packet: Sent → history, virtual queue → (viewer) → Feedback →
// throughput, group → trend → control → Estimate.
package bwe

import (
	"fmt"
	"math"
	"time"
)

const (
	capFactor   = 1.5              // the estimate is at most this times what arrived lately
	capSlack    = 50e3             // bits/s, besides
	peakHalf    = 4 * time.Second  // "lately": half-life of a peak of the throughput
	provenHalf  = 30 * time.Second // half-life of what a probe or a once higher rate proved
	idleAfter   = 2 * time.Second  // nothing sent for this long: idle
	forgetAfter = 10 * time.Second // … and for this long: what was sent is no longer expected back

	silenceTWCC = time.Second     // packets on the way and no feedback for this long: something is wrong
	silenceRR   = 6 * time.Second // the same without transport-wide feedback: RFC 3550 §6.2 allows 5 s between reports
	silenceStep = 500 * time.Millisecond
	silenceBeta = 0.8

	fullQueue = 150 * time.Millisecond // that stands: the path is full
	fullLoss  = 0.05                   // above what the path always loses
	fullFor   = time.Minute            // a path found full is treated with care
)

// Kind is what a packet is sent for.
type Kind uint8

const (
	Media   Kind = iota // media, FEC, or a packet that the viewer asked for again
	Padding             // only because Probe asked: padding, or a packet sent again unasked
)

// Config bounds an estimate, in bits/s.
type Config struct {
	Min   float64 // never below, > 0
	Start float64 // before anything is known, Min ≤ Start ≤ Max
	Max   float64 // never above

	// Lost, if not nil, is told of each packet that the viewer says has not
	// arrived, once, while Feedback or FeedbackBytes runs.
	Lost func(seq uint16)
}

// Estimator estimates the path to one viewer. It is not safe for concurrent
// use and starts no goroutine. It has no clock: every call that needs the time
// takes it. Times should come from one monotonic clock; one that goes back
// counts as standing still. Rates are bits/s and count the bytes that Sent was
// told. Sent, Feedback, FeedbackBytes, Reception, REMB and Probe do not allocate
// once the history has its size (12 bytes a packet on the way, at most 48 KiB).
type Estimator struct {
	config Config

	epoch time.Time     // of the first call
	now   time.Duration // since epoch, never goes back

	history  history
	queue    float64 // bytes in the virtual queue
	lastSent time.Duration
	waiting  time.Duration // when the first packet after the last feedback was sent
	expects  bool          // such a packet was sent
	decayed  time.Duration // last decay in silence

	reference   reference // of feedback
	told        int64     // no feedback told yet of the packets from here on
	missed      float64   // bytes of packets that were passed over
	delivered   throughput
	group       group
	trend       trend
	base        lowest // least one-way delay in half a minute: no queue
	floor       lowest // least one-way delay just now
	unexplained lowest // least delay just now that the virtual queue does not explain
	lastDelay   time.Duration
	rtt         time.Duration // least of the last feedbacks, of the control loop rather than the path
	rtts        lowest
	roundTrip   lowest        // of the path
	twcc        time.Duration // last feedback; 0 none yet
	any         bool          // some feedback or report came

	rate      float64       // the estimate
	ceiling   float64       // what the path delivered when it was last over-used; 0 unknown
	cut       time.Duration // last time the rate was lowered
	filled    time.Duration // … because the path was full
	cutArrive time.Duration // what had arrived then, by the viewer's clock
	revisable bool          // that cut was the first in a while
	raised    time.Duration // last time the rate was allowed to grow
	peak      float64       // of the throughput, lately
	proven    float64       // what a probe, or a higher rate once, proved; fades
	aged      time.Duration // last time peak and proven were aged
	delayed   bool
	overSince time.Duration // 0: not over-used
	remb      float64
	rembTill  time.Duration

	loss    loss
	reports reports
	probe   probe
}

// New checks c and returns an estimator that says c.Start.
func New(c Config) (*Estimator, error) {
	if !(c.Min > 0 && c.Min <= c.Start && c.Start <= c.Max) || math.IsInf(c.Max, 0) {
		return nil, fmt.Errorf("bandwidth estimate: need 0 < min ≤ start ≤ max, got %v, %v, %v", c.Min, c.Start, c.Max)
	}
	e := &Estimator{config: c, rate: c.Start, proven: c.Start}
	e.history.init()
	e.trend.reset()
	e.probe.budget = budgetMost
	e.base.span, e.floor.span, e.unexplained.span = 15*time.Second, 120*time.Millisecond, 120*time.Millisecond
	e.rtts.span = 2 * time.Second
	e.roundTrip.span = 15 * time.Second
	e.reports.rtts.span = 15 * time.Second
	return e, nil
}

// clock moves the time on.
func (e *Estimator) clock(now time.Time) time.Duration {
	if e.epoch.IsZero() {
		e.epoch = now.Add(-time.Second) // so that 0 is before everything
	}
	e.now = max(e.now, now.Sub(e.epoch))
	return e.now
}

// Sent numbers a packet of size bytes that leaves now, and remembers it. The
// number goes into the header extension of
// draft-holmer-rmcat-transport-wide-cc-extensions-01 §2. Everything that the
// viewer's path carries under such numbers belongs here: media, what is sent
// again, FEC and padding. Packets that leave in one system call share one now.
func (e *Estimator) Sent(now time.Time, size int, kind Kind) (seq uint16) {
	t := e.clock(now)
	size = min(max(size, 0), math.MaxUint16)
	idle := t - e.lastSent
	if idle > idleAfter {
		e.age(t)
	}
	if idle > forgetAfter {
		e.history.forget()
		e.expects = false
	}
	bytesPerSecond := e.Estimate() / 8
	e.queue = max(0, e.queue-bytesPerSecond*(t-e.lastSent).Seconds())
	e.queue = min(e.queue+float64(size), bytesPerSecond)
	queued := time.Duration(e.queue / bytesPerSecond * float64(time.Second))
	e.lastSent = t
	e.reports.sent += float64(size)
	e.silence(t)
	if !e.expects {
		e.expects, e.waiting = true, t
	}
	return e.history.add(t, queued, size, e.probe.tag(t, size, kind, e.history.next))
}

// silence lowers the rate when packets are on the way and nothing comes back.
func (e *Estimator) silence(t time.Duration) {
	if !e.silent(t) || t-e.decayed < silenceStep {
		return
	}
	e.decayed = t
	e.rate = max(e.rate*silenceBeta, e.config.Min)
	e.proven = min(e.proven, e.rate)
}

// silent says that packets are on the way and nothing comes back.
func (e *Estimator) silent(t time.Duration) bool {
	limit := silenceRR
	if e.twcc > 0 {
		limit = max(silenceTWCC, 3*e.rtt)
	}
	return e.expects && t-e.waiting >= limit
}

// heard notes that the viewer answers.
func (e *Estimator) heard() { e.expects, e.any = false, true }

// Estimate is what the viewer's path takes, in bits/s.
func (e *Estimator) Estimate() float64 {
	r := e.rate
	if e.now < e.rembTill {
		r = min(r, e.remb)
	}
	return min(max(r, e.config.Min), e.config.Max)
}

// Loss is the share of packets that were lost lately, 0 to 1.
func (e *Estimator) Loss() float64 { return e.loss.smooth }

// RoundTrip is the least time lately from a packet's leaving to the feedback
// that tells of it; 0: not known.
func (e *Estimator) RoundTrip() time.Duration {
	d, _ := e.roundTrip.value()
	return d
}

// Jitter is how much later or earlier than the one before a frame arrives, on
// average, as far as queues do not explain it; at most 50 ms.
func (e *Estimator) Jitter() time.Duration { return e.trend.noise }

// Delayed says that the path is over-used: a queue grew in it at the last feedback.
func (e *Estimator) Delayed() bool { return e.delayed }

// Queue is how long the queue in the path is that did not empty lately, as far
// as the one-way delay shows: a packet that is sent now arrives later by this.
func (e *Estimator) Queue() time.Duration { return e.standing() }

// Full says that the path takes no more than it is sent, as far as is known:
// a queue stands in it, it loses more than it always does, or nothing comes
// back.
func (e *Estimator) Full(now time.Time) bool {
	t := e.clock(now)
	return e.standing() > fullQueue || e.loss.excess > fullLoss || e.silent(t)
}

// Backlog is how long the path takes, at the estimate, to deliver what was sent
// and is not told of, less the round trip: when the queue that this makes will
// have drained. In quiet times it is about the time between feedbacks.
func (e *Estimator) Backlog() time.Duration {
	bytes := 0
	for seq := max(e.told, e.history.oldest); seq < e.history.next; seq++ {
		bytes += int(e.history.at(seq).size)
	}
	least, _ := e.roundTrip.value()
	return max(0, time.Duration(float64(bytes)*8/e.Estimate()*float64(time.Second))-least)
}

// Narrow says that the path was found full in the last minute: a burst of much
// more than the estimate will fill its queue.
func (e *Estimator) Narrow(now time.Time) bool {
	t := e.clock(now)
	return e.filled > 0 && t-e.filled < fullFor || e.silent(t)
}

// Want says what the viewer would be sent, in bits/s, if the path took it.
// Probe stays quiet while the estimate covers that.
func (e *Estimator) Want(rate float64) { e.probe.want = rate }

// standing is the queue that did not empty lately.
func (e *Estimator) standing() time.Duration {
	base, ok := e.base.value()
	floor, also := e.floor.value()
	if !ok || !also {
		return 0
	}
	return max(0, floor-base)
}

// age forgets slowly what arrived and what was proved.
func (e *Estimator) age(t time.Duration) {
	dt := t - e.aged
	e.aged = t
	e.peak *= half(dt, peakHalf)
	if least := min(e.config.Start, e.proven); t-e.lastSent > idleAfter {
		e.proven = max(least, e.proven*half(dt, provenHalf)) // idle: no news is no bad news
	} else {
		e.proven *= half(dt, provenHalf)
	}
}

// bound caps the rate by what arrived lately and what was proved.
func (e *Estimator) bound() {
	most := min(max(e.proven, capFactor*e.peak+capSlack), e.config.Max)
	e.rate = max(min(e.rate, most), e.config.Min)
}

// wide says whether the viewer gives transport-wide feedback.
func (e *Estimator) wide(t time.Duration) bool { return e.twcc > 0 && t-e.twcc < twccStale }

// prove notes that the path carries rate.
func (e *Estimator) prove(rate float64) {
	rate = min(rate, e.config.Max)
	e.proven, e.rate = max(e.proven, rate), max(e.rate, rate)
}

// half is what is left after dt of what halves every h.
func half(dt, h time.Duration) float64 {
	if dt <= 0 {
		return 1
	}
	return math.Exp2(-float64(dt) / float64(h))
}

// lowest is the least of what came within one to two spans.
type lowest struct {
	span      time.Duration
	since     time.Duration
	cur, prev time.Duration
	n         int // 0: nothing; 1: only cur; 2: both
}

func (l *lowest) add(t, v time.Duration) {
	switch {
	case l.n == 0 || t-l.since >= 2*l.span || t < l.since:
		l.since, l.cur, l.n = t, v, 1
	case t-l.since >= l.span:
		l.since, l.prev, l.cur, l.n = t, l.cur, v, 2
	default:
		l.cur = min(l.cur, v)
	}
}

func (l *lowest) value() (time.Duration, bool) {
	if l.n == 2 {
		return min(l.cur, l.prev), true
	}
	return l.cur, l.n == 1
}

func (l *lowest) reset() { l.n = 0 }
