package forward

import (
	"net/netip"
	"time"

	"edged/forward/protect"
)

// What goes to a viewer whose path is narrow is spread over time, so that a
// keyframe, or what follows a join, does not fill the path's queue and lose its
// end. On any other path a frame is one segmented send.
//
// What is not sent yet stays in the ring: the lane is in the middle of a frame.
const (
	paceFactor  = 2.0                    // of the estimate is sent, …
	paceUnknown = 10e6                   // … or this, in bits/s, before anything is known of a far viewer
	paceStep    = 5 * time.Millisecond   // between what is sent of a frame
	paceBurst   = 10 * time.Millisecond  // what may leave at once, of what is sent in this time
	paceMost    = 250 * time.Millisecond // a frame is sent in full so long after it could have been …
	paceKeys    = 4 * time.Second        // … or so long, where nothing follows it
	paceResend  = 100 * time.Millisecond // what is sent again may be so far ahead of the rate
	fullPacket  = headerSize + extensionSize + 1144 + protect.MaxTag
)

// pacer is a lane's share of its path over time. It is pure.
type pacer struct {
	since  time.Time // when what is to be sent began to wait; zero: nothing waits
	at     time.Time // credit is of then
	credit float64   // bytes that may leave; less than zero after what had to
}

// refill lets time pass, at so many bytes a second.
func (p *pacer) refill(now time.Time, perSecond float64) {
	burst := max(perSecond*paceBurst.Seconds(), fullPacket)
	if p.at.IsZero() {
		p.credit = burst
	} else {
		p.credit = min(burst, p.credit+perSecond*max(0, now.Sub(p.at)).Seconds())
	}
	p.at = now
}

// due is how many bytes a second backlog needs to be sent in time, rate at
// least; not ok: the time is over.
func (p *pacer) due(now time.Time, perSecond float64, backlog int, most time.Duration) (float64, bool) {
	if p.since.IsZero() {
		p.since = now
	}
	left := most - now.Sub(p.since)
	if left < paceStep {
		return 0, false
	}
	return max(perSecond, float64(backlog)/left.Seconds()), true
}

// paceRate is how fast a lane's packets may go to the viewer at remote, in
// bits/s, and how long a frame may take; 0: at once. v.mu is held.
func (v *Viewer) paceRate(l *lane, remote *netip.AddrPort, now time.Time) (rate float64, most time.Duration) {
	switch {
	case l.ring.audio || v.bandwidth == nil || remote == nil:
		return 0, 0
	case l.rung == rungKeys:
		return v.bandwidth.Estimate(), paceKeys
	case v.heard && v.bandwidth.Narrow(now):
		return paceFactor * v.bandwidth.Estimate(), paceMost
	case !v.heard && !isNear(remote.Addr()):
		return paceUnknown, paceMost
	}
	return 0, 0
}

// isNear tells addresses of the same network from those behind a link that
// may be narrow.
func isNear(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
}

// mayResend tells whether a packet may be sent again on a path that is paced at
// rate, 0 if it is not: what was lost goes before what is new, but fills a
// narrow path no more than that, and not at all where the next that is sent
// will be a keyframe.
func (l *lane) mayResend(now time.Time, rate float64) bool {
	if rate == 0 {
		return true
	}
	l.pacer.refill(now, rate/8)
	return !l.thinner.draining && l.pacer.credit > -rate/8*paceResend.Seconds()
}

// past tells whether a packet was sent before the newest keyframe: it is not
// needed to go on.
func (l *lane) past(wire uint16) bool {
	return l.seq-uint64(uint16(l.seq)-wire) < l.keySeq
}

// pace says how many of the frame's packets may have been sent by now. The
// caller holds the ring's lock.
func (l *lane) pace(f frame, now time.Time, rate float64, most time.Duration) int {
	perSecond, ok := l.pacer.due(now, rate/8, l.backlog(f), most)
	if !ok {
		l.pacer = pacer{}
		return f.count
	}
	l.pacer.refill(now, perSecond)
	end := l.part
	for ; end < f.count && l.pacer.credit > 0; end++ {
		l.pacer.credit -= float64(len(l.ring.payloadLocked(f.first+uint64(end))) + headerSize + extensionSize + protect.MaxTag)
	}
	if end == f.count && (l.rung == rungKeys || f.number == l.ring.newestLocked()) {
		l.pacer.since = time.Time{}
	}
	return end
}

// backlog is how many bytes from frame f on are still to be sent.
func (l *lane) backlog(f frame) int {
	bytes := f.size - f.size*l.part/f.count
	if l.rung == rungKeys {
		return bytes
	}
	for n := f.number + 1; n <= l.ring.newestLocked(); n++ {
		if next, held := l.ring.frameLocked(n); held {
			bytes += next.size
		}
	}
	return bytes
}

// paced is the viewers of a worker to whom a part of a frame is still to be
// sent.
type paced struct {
	timer          *time.Timer
	viewers, round []*Viewer
}

func newPaced() paced {
	p := paced{timer: time.NewTimer(time.Hour)}
	p.timer.Stop()
	return p
}

// begin gives the viewers of this round, who are added again while there is a
// reason.
func (p *paced) begin() []*Viewer {
	clear(p.round)
	p.round, p.viewers = p.viewers, p.round[:0]
	return p.round
}

// add notes a viewer and has the worker woken for it.
func (p *paced) add(v *Viewer) {
	if len(p.viewers) == 0 {
		p.timer.Reset(paceStep)
	}
	p.viewers = append(p.viewers, v)
}
