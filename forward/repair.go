package forward

import (
	"net/netip"
	"time"

	"edged/forward/bwe"
)

// What the path loses is sent again: when the viewer asks for it (NACK), and
// when its transport-wide feedback shows the loss, whichever comes first. A
// request can be lost, and viewers wait a tenth of a second with the next. What
// is sent again can be lost too, so it is followed by a copy, with the next
// frame and not at once: losses come in bursts. A path that is full gets what
// it asks for and no copies.
const (
	// A packet asked for again within half the round trip was asked for twice;
	// but the round trip that is measured is not always that of the request.
	resendGap    = 5 * time.Millisecond
	resendGapMax = 50 * time.Millisecond

	recentResends  = 256  // packets whose last resend is remembered
	carriedPackets = 1024 // on the way: a second of 10 Mbit/s
	laterPackets   = 64   // that have a copy to come
	lostPackets    = 256  // taken from one feedback

	spareQueue = 50 * time.Millisecond // a path in which a queue of this stands is full
	spareLoss  = 0.25                  // one that loses this is beyond help by more packets
)

// resent remembers when a packet was sent again.
type resent struct {
	packet
	number uint16 // transport-wide, of the newest copy
	times  uint8
	at     int64 // Unix nanoseconds
}

// packet is one of a lane's, by what it is called on the wire.
type packet struct {
	ssrc uint32
	seq  uint16
}

// carried is what went under a transport-wide number.
type carried struct {
	packet
	number uint16
}

// repair is what a viewer's path has lost, and what was done about it. The
// viewer's mu guards it.
type repair struct {
	recent  []resent  // by sequence number modulo recentResends; nil before the first resend
	carried []carried // by number modulo carriedPackets; nil before the first loss
	lost    []uint16  // numbers, of the feedback that is being taken
	later   []packet  // to be sent once more with the next frame
}

// miss takes a transport-wide number that did not arrive.
func (r *repair) miss(number uint16) {
	if len(r.lost) < lostPackets {
		r.lost = append(r.lost, number)
	}
}

// note notes what a transport-wide number is given to.
func (r *repair) note(number uint16, p packet) {
	if r.carried == nil {
		return
	}
	r.carried[number%carriedPackets] = carried{p, number}
	if r.recent != nil {
		if c := &r.recent[p.seq%recentResends]; c.packet == p {
			c.number = number
		}
	}
}

// of finds when a packet was sent again.
func (r *repair) of(p packet) *resent {
	if r.recent == nil {
		r.recent = make([]resent, recentResends)
	}
	return &r.recent[p.seq%recentResends]
}

// again appends a packet to b once more. It reports false when no more may be
// sent again now.
func (v *Viewer) again(l *lane, seq uint16, b *batch, now time.Time, rate float64) bool {
	if !l.mayResend(now, rate) || !v.budget.take(now, v.counts.Packets) {
		return false
	}
	p := packet{l.ssrc, seq}
	r := v.repair.of(p)
	before, size := *r, len(b.buf)
	if r.packet != p {
		*r = resent{packet: p}
	}
	r.at, r.times = now.UnixNano(), min(r.times, 100)+1
	if l.resend(seq, b) {
		l.pacer.credit -= float64(len(b.buf) - size)
	} else {
		*r = before
	}
	return true
}

// restore is again for a packet that is known to be missing: a copy follows if
// the path has room, and a second at once if it is missing still.
func (v *Viewer) restore(l *lane, seq uint16, b *batch, now time.Time, rate float64) bool {
	if !v.again(l, seq, b, now, rate) {
		return false
	}
	if !v.hasRoom() {
		return true
	}
	p := packet{l.ssrc, seq}
	r := v.repair.of(p)
	if r.packet != p {
		return true // no longer held
	}
	if len(v.repair.later) < laterPackets {
		v.repair.later = append(v.repair.later, p)
	}
	return r.times == 1 || v.again(l, seq, b, now, rate)
}

// hasRoom tells whether the path is known to have room for copies.
func (v *Viewer) hasRoom() bool {
	return v.bandwidth != nil && v.heard && v.remote.Load() != nil && v.bandwidth.Queue() < spareQueue && v.bandwidth.Loss() < spareLoss
}

// mend sends again what the feedback taken last has shown to be lost, if no
// newer copy of it is on the way. v.mu is held.
func (v *Viewer) mend(now time.Time) {
	lost := v.repair.lost
	v.repair.lost = lost[:0]
	if len(lost) == 0 || !v.hasRoom() {
		return
	}
	if v.repair.carried == nil {
		v.repair.carried = make([]carried, carriedPackets) // from now on
		return
	}
	v.at, v.kind = now, bwe.Media
	remote := v.remote.Load()
	b := batches.Get().(*batch)
	b.hasty = true // the reader of the media socket does not wait for room
	defer b.release()
	v.begin(b)
	for _, number := range lost {
		c := v.repair.carried[number%carriedPackets]
		l := v.laneLocked(c.ssrc)
		if c.number != number || l == nil || !l.nacks || l.past(c.seq) {
			continue
		}
		if r := v.repair.of(c.packet); r.packet == c.packet && r.number != number {
			continue // a copy is on the way
		}
		if rate, _ := v.paceRate(l, remote, now); !v.restore(l, c.seq, b, now, rate) {
			break
		}
	}
	v.sendAgain(remote, b)
}

// repeat sends the copies that wait for the next frame. v.mu is held.
func (v *Viewer) repeat(b *batch, now time.Time) {
	later, remote := v.repair.later, v.remote.Load()
	v.repair.later = later[:0]
	if len(later) == 0 || !v.hasRoom() {
		return
	}
	v.begin(b)
	for _, p := range later {
		l := v.laneLocked(p.ssrc)
		rate, _ := v.paceRate(l, remote, now)
		if !v.again(l, p.seq, b, now, rate) {
			break
		}
	}
	v.sendAgain(remote, b)
}

// sendAgain protects and sends a batch of packets that were sent before.
func (v *Viewer) sendAgain(remote *netip.AddrPort, b *batch) {
	packets, _ := b.built()
	if packets == 0 || !v.seal(b) {
		return
	}
	v.counts.RTX += uint64(packets)
	v.sfu.counters.rtx.Add(uint64(packets))
	v.send(remote, b, time.Time{})
}
