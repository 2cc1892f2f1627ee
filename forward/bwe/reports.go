package bwe

import (
	"math"
	"time"
)

const (
	reportLeast = 200 * time.Millisecond // reports closer than this are one
	twccStale   = 3 * time.Second
	rttRise     = 100 * time.Millisecond // above the least: a queue
	rembFor     = 10 * time.Second
)

// reports is what receiver reports tell of a viewer without transport-wide feedback.
type reports struct {
	sent float64 // bytes since at
	at   time.Duration
	rtts lowest
	high int // reports in a row with a high round trip
}

// Reception takes a receiver report (RFC 3550 §6.4.1): the share of packets
// lost since the last, 0 to 1 over all lanes, and the round trip, 0 if it is
// not known. It matters only for a viewer without transport-wide feedback; then
// what was sent less what was lost stands for what arrived.
func (e *Estimator) Reception(now time.Time, share float64, rtt time.Duration) {
	t, r := e.clock(now), &e.reports
	if math.IsNaN(share) {
		return
	}
	share = min(max(share, 0), 1)
	if e.wide(t) {
		r.sent, r.at = 0, t
		return
	}
	e.heard()
	dt := t - r.at
	if r.at > 0 && dt < reportLeast {
		return
	}
	sent := r.sent * 8 / dt.Seconds()
	first := r.at == 0
	r.sent, r.at = 0, t
	if first || sent == 0 {
		return
	}
	arrived := sent * (1 - share)
	e.age(t)
	e.peak = max(e.peak, arrived)
	if rtt > 0 && rtt < time.Minute {
		r.rtts.add(t, rtt)
		e.rtt = rtt
		if least, _ := r.rtts.value(); rtt > least+max(rttRise, least/2) {
			r.high++
		} else {
			r.high = 0
		}
	}
	e.delayed = r.high > 1
	if e.delayed {
		e.cutTo(t, arrived)
	} else {
		e.lossy(t, share, arrived)
		e.grow(t)
	}
	e.raised = t
	e.bound()
	e.judgeReport(t, share)
}

// judgeReport ends a probe by the report that covers it.
func (e *Estimator) judgeReport(t time.Duration, share float64) {
	p := &e.probe
	p.finish(t)
	if !p.pending || t < p.until+e.rtt/2 {
		return
	}
	p.pending = false
	rate := p.bytes * 8 / (p.until - p.start).Seconds()
	least, _ := e.reports.rtts.value()
	if e.delayed || e.rtt > least+probeRise || share > probeLoss/2+e.loss.inherent || rate < probeKeep*p.rate {
		p.fail(t)
		return
	}
	rate = min(rate, p.rate)
	e.prove(rate)
	p.succeed(t, rate)
}

// REMB takes the receiver's own estimate, in bits/s, as an upper bound
// (draft-alvestrand-rmcat-remb-03). It holds for ten seconds.
func (e *Estimator) REMB(now time.Time, rate float64) {
	t := e.clock(now)
	if rate > 0 { // not NaN
		e.remb, e.rembTill = rate, t+rembFor
	}
}
