package bwe

import (
	"math"
	"time"
)

const (
	probeFactor  = 2.0 // of the estimate, at most
	probeLeast   = 1.05
	probeMargin  = 1.2 // of what is wanted
	probeSpan    = 60 * time.Millisecond
	probePackets = 8 // full-sized, at least
	probeBurst   = 5 * time.Millisecond
	probeAgain   = 200 * time.Millisecond // after one whose feedback was lost
	probeSlack   = 100 * time.Millisecond // for a caller that asks seldom
	probeMost    = 500 * time.Millisecond
	longerMost   = 2
	probeRR      = 800 * time.Millisecond // without transport-wide feedback loss must show in a report
	probeRRStep  = 1.5
	probeAlign   = 150 * time.Millisecond // after a report
	probeRise    = 50 * time.Millisecond  // of the round trip: a queue
	probeKeep    = 0.9                    // of the rate that was sent arrives: the path takes it
	stretchMost  = 2.0                    // packets take this many times as long to arrive as to leave: enough seen
	probeLoss    = 0.10
	probeWait    = time.Second // for the verdict, besides the round trip
	backoffLeast = time.Second
	backoffMost  = 5 * time.Second
	backoffRR    = 20 * time.Second // such probes are long
	regretFor    = 5 * time.Second  // over-use so soon after a probe was a success: it was none
	holdFor      = time.Second      // no probe so soon after a cut
	usedShare    = 0.8              // of what a probe proved was then used and held
	budgetShare  = 0.05             // of media, on average
	budgetMost   = 256e3            // bytes
	fullPacket   = 1200
)

// probe finds out whether the path takes more than is sent: for a short while
// media and padding together are sent at a higher rate.
type probe struct {
	want   float64
	budget float64 // bytes of padding that probes may still cost
	dice   uint64

	cluster

	next       time.Duration
	backoff    time.Duration
	patience   time.Duration // the most that backoff becomes
	proved     time.Duration // last success; 0 none, or regretted, or long enough ago
	provedRate float64
	longer     int // doublings of the span: the path swallowed shorter bursts and did not keep up
}

// cluster is one probe: what was sent, and what came of it.
type cluster struct {
	active  bool
	pending bool // sent, no verdict yet
	id      uint8
	rate    float64 // bits/s
	start   time.Duration
	until   time.Duration
	sentAt  time.Duration // last packet
	bytes   float64       // sent so far
	packets int
	last    int64 // extended sequence number of the last packet

	arrived, missing        int
	carried                 float64 // bytes that arrived
	origin                  [2]time.Duration
	firstArrive, lastArrive time.Duration
	sx, sy, sxx, sxy, syy   float64 // sums over s sent and s arrived, since origin
}

// tag says which cluster a packet that is sent now belongs to; 0 none.
func (p *probe) tag(t time.Duration, size int, kind Kind, seq int64) uint8 {
	if kind == Padding {
		p.budget -= float64(size)
	} else {
		p.budget = min(p.budget+budgetShare*float64(size), budgetMost)
	}
	if !p.active || t > p.until+probeSlack {
		return 0
	}
	p.sentAt = t
	p.bytes += float64(size)
	p.packets++
	p.last = seq
	return p.id
}

// miss takes a packet that was lost, or -1 for one that came after all.
func (p *probe) miss(r *record, n int) {
	if r.probe != 0 && r.probe == p.id {
		p.missing += n
	}
}

// add takes a packet that arrived.
func (p *probe) add(r *record, sent, arrive time.Duration) {
	if r.probe == 0 || r.probe != p.id || !p.active && !p.pending {
		return
	}
	if p.arrived == 0 {
		p.origin = [2]time.Duration{sent, arrive}
		p.firstArrive, p.lastArrive = arrive, arrive
	}
	p.arrived++
	p.carried += float64(r.size)
	p.firstArrive, p.lastArrive = min(p.firstArrive, arrive), max(p.lastArrive, arrive)
	x, y := (sent - p.origin[0]).Seconds(), (arrive - p.origin[1]).Seconds()
	p.sx, p.sy = p.sx+x, p.sy+y
	p.sxx, p.sxy, p.syy = p.sxx+x*x, p.sxy+x*y, p.syy+y*y
}

// stretch is how much longer the packets took to arrive than to be sent: the
// least-squares slope, which jitter moves little, less twice its standard error
// as far as that does not say that they took less. Not ok if they left at once.
func (p *cluster) stretch() (float64, bool) {
	n := float64(p.arrived)
	xx := p.sxx - p.sx*p.sx/n
	if p.arrived < 3 || xx <= 1e-9*n {
		return 0, false
	}
	xy, yy := p.sxy-p.sx*p.sy/n, p.syy-p.sy*p.sy/n
	slope := xy / xx
	wrong := math.Sqrt(max(0, yy-slope*xy) / (n - 2) / xx)
	return max(slope-2*wrong, min(slope, 1)), true
}

// due is how many bytes more the probe should have sent by now.
func (p *probe) due(t time.Duration) int {
	due := p.rate/8*(min(t, p.until)-p.start+probeBurst).Seconds() - p.bytes
	if due < fullPacket/4 {
		return 0
	}
	return int(due)
}

// finish ends the sending of a probe when its time is over and it has sent
// what it should, if only a little late.
func (p *probe) finish(t time.Duration) {
	if p.active && t >= p.until && (p.due(t) == 0 || t >= p.until+probeSlack) {
		p.active, p.pending, p.until = false, true, max(p.until, p.sentAt)
	}
}

// hold keeps probes away after a cut, and ends one that runs.
func (p *probe) hold(t time.Duration) {
	if p.active {
		p.active = false
		p.fail(t)
	}
	p.next = max(p.next, t+holdFor)
}

// regret is called when the rate is cut: a probe that proved more just before
// was wrong. A shaper may let a burst pass at once; a longer one shows it.
func (p *probe) regret(t time.Duration) {
	if p.raised(t) {
		p.proved, p.longer = 0, min(p.longer+1, longerMost)
		p.fail(t)
	}
}

// raised says whether a probe raised the rate just before.
func (p *probe) raised(t time.Duration) bool { return p.proved > 0 && t-p.proved < regretFor }

// succeed leaves the backoff as it is until regret is past.
func (p *probe) succeed(t time.Duration, rate float64) { p.proved, p.provedRate = t, rate }

// fail puts the next probe off. Viewers behind one bottleneck fail together
// and must not try again together, so the time is 0.6 to 1 times the backoff,
// by a dice that their traffic throws.
func (p *probe) fail(t time.Duration) {
	p.backoff = min(max(2*p.backoff, backoffLeast), p.patience*time.Duration(2+p.longer)/2)
	p.dice = (p.dice + uint64(t) + uint64(p.last) + uint64(p.bytes)) * 0x9e3779b97f4a7c15
	share := 0.6 + 0.4*float64(p.dice>>40)/(1<<24)
	p.next = max(p.next, t+time.Duration(share*float64(p.backoff)))
}

// Probe says whether bytes of padding, or better of packets sent again, should
// leave now in order to find out if more goes through, and at which rate media
// and they leave together meanwhile. It says so only while Want asks for more
// than the estimate, not while the path is over-used, and after a failure at
// growing intervals, and for padding that is on average no more than a
// twentieth of the media.
//
// The bytes are a small burst: ask again about every 5 ms until some 60 ms
// after it last said ok, else after each frame and feedback. What is sent is
// numbered by Sent as Padding. Bytes that are not sent are asked for again.
func (e *Estimator) Probe(now time.Time) (bytes int, rate float64, ok bool) {
	t, p := e.clock(now), &e.probe
	p.finish(t)
	if p.pending && t-p.until > e.rtt+probeWait && (e.wide(t) || t-p.until > silenceRR) {
		e.judge(t)
	}
	if p.proved > 0 && t-p.proved >= regretFor {
		p.proved, p.backoff = 0, 0
		if e.peak > usedShare*p.provedRate {
			p.longer = max(p.longer-1, 0)
		}
	}
	if !p.active && (p.pending || !e.mayProbe(t) || !e.beginProbe(t)) {
		return 0, 0, false
	}
	due := p.due(t)
	return due, p.rate, due > 0
}

func (e *Estimator) mayProbe(t time.Duration) bool {
	return e.any && e.probe.budget > 0 && t >= e.probe.next && min(e.probe.want, e.config.Max) > e.Estimate() &&
		!e.delayed && e.standing() < standHigh && t-e.lastSent < idleAfter
}

func (e *Estimator) beginProbe(t time.Duration) bool {
	p := &e.probe
	estimate := e.Estimate()
	factor, span := probeFactor, probeSpan
	p.patience = backoffMost
	if !e.wide(t) {
		if t-e.reports.at > probeAlign {
			return false // so that the next report shows it
		}
		factor, span, p.patience = probeRRStep, probeRR, backoffRR
	}
	rate := min(factor*estimate, probeMargin*p.want, e.config.Max)
	if e.now < e.rembTill {
		rate = min(rate, e.remb)
	}
	if rate < probeLeast*estimate {
		return false // nothing to find out
	}
	span = max(span<<p.longer, min(6*e.trend.noise, probeMost))
	least := time.Duration(probePackets * fullPacket * 8 / rate * float64(time.Second))
	p.cluster = cluster{
		active: true, id: p.id%255 + 1, rate: rate, start: t, until: t + min(max(span, least), max(span, probeMost)),
	}
	return true
}

// cutShort ends a probe that runs once what came of it shows that it fails.
func (e *Estimator) cutShort(t time.Duration) {
	p := &e.probe
	if stretch, ok := p.stretch(); p.active && p.arrived >= probePackets && ok && stretch > stretchMost {
		p.active = false
		p.fail(t)
	}
}

// judge ends a probe by what arrived of it.
func (e *Estimator) judge(t time.Duration) {
	p := &e.probe
	p.pending = false
	known := p.arrived + p.missing
	if known < p.packets/2 && e.wide(t) { // the feedback was lost: try again
		p.next = max(p.next, t+probeAgain)
		return
	}
	stretch, ok := p.stretch()
	lost := float64(p.missing) / float64(max(known, 1))
	if !ok || lost > probeLoss+e.loss.inherent {
		p.fail(t)
		return
	}
	// what no feedback told of fared like the rest
	came := p.bytes * float64(p.arrived) / float64(known)
	span := p.until - p.start + probeBurst
	out := min(came*8/span.Seconds(), p.rate)
	in := out / max(stretch, 1)
	if known == p.packets {
		took := max(p.lastArrive-p.firstArrive-3*e.trend.noise, span)
		in = min(in, p.carried*8/took.Seconds())
	}
	if in < probeKeep*out {
		e.prove(max(e.rate, beta*in)) // the queue that the probe made shows the capacity
		p.fail(t)
		return
	}
	e.prove(in)
	p.succeed(t, in)
}
