package bwe

import (
	"encoding/binary"
	"errors"
	"math"
	"time"

	"github.com/pion/rtcp"
)

// ErrFeedback is what FeedbackBytes says of a packet that is no transport-wide
// feedback or contradicts itself.
var ErrFeedback = errors.New("malformed transport-wide feedback")

const (
	deltaUnit     = 250 * time.Microsecond // draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1.5
	referenceUnit = 64 * time.Millisecond  // §3.1
	feedbackHead  = 20                     // bytes before the chunks
)

// reference unwraps the 24-bit reference time.
type reference struct {
	last uint32
	time time.Duration
	set  bool
}

func (r *reference) unwrap(v uint32) time.Duration {
	if r.set {
		r.time += time.Duration(int32((v-r.last)<<8)>>8) * referenceUnit
	}
	r.last, r.set = v, true
	return r.time
}

// report walks through one feedback.
type report struct {
	now    time.Duration
	seq    int64         // extended, of the next status
	arrive time.Duration // of the last packet that arrived
	newest time.Duration // age of the newest packet that arrived; < 0 none
}

// FeedbackBytes takes one RTCP packet, header included, with the viewer's
// feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1). It reads
// b in place, does not retain it and does not allocate; the work is bounded by
// 65,535 steps, and usually the packets that it tells of. A packet that
// contradicts itself changes nothing and gives ErrFeedback.
func (e *Estimator) FeedbackBytes(now time.Time, b []byte) error {
	t := e.clock(now)
	chunks, deltas, err := split(b)
	if err != nil {
		return err
	}
	count := int(binary.BigEndian.Uint16(b[14:]))
	r, ok := e.begin(t, binary.BigEndian.Uint16(b[12:]), uint32(b[16])<<16|uint32(b[17])<<8|uint32(b[18]))
	if !ok {
		return nil
	}
	for ; len(chunks) > 0 && count > 0; chunks = chunks[2:] {
		c := binary.BigEndian.Uint16(chunks)
		n, _ := symbols(c, count)
		count -= n
		for i := range n {
			s := symbol(c, i)
			var delta int64
			switch s {
			case rtcp.TypeTCCPacketReceivedSmallDelta:
				delta, deltas = int64(deltas[0]), deltas[1:]
			case rtcp.TypeTCCPacketReceivedLargeDelta:
				delta, deltas = int64(int16(binary.BigEndian.Uint16(deltas))), deltas[2:]
			}
			if !e.status(&r, s, time.Duration(delta)*deltaUnit) {
				break
			}
		}
		if r.seq >= e.history.next {
			break
		}
	}
	e.end(&r)
	return nil
}

// split finds the chunks and the deltas of a feedback and checks that they
// are there for as many packets as it speaks of.
func split(b []byte) (chunks, deltas []byte, err error) {
	if len(b) < feedbackHead || b[0]>>6 != 2 || b[0]&0x1f != rtcp.FormatTCC || b[1] != uint8(rtcp.TypeTransportSpecificFeedback) {
		return nil, nil, ErrFeedback
	}
	end := 4 * (int(binary.BigEndian.Uint16(b[2:])) + 1)
	if end < feedbackHead || end > len(b) {
		return nil, nil, ErrFeedback
	}
	count, need, at := int(binary.BigEndian.Uint16(b[14:])), 0, feedbackHead
	for count > 0 {
		if at+2 > end {
			return nil, nil, ErrFeedback
		}
		n, bytes := symbols(binary.BigEndian.Uint16(b[at:]), count)
		count, need, at = count-n, need+bytes, at+2
	}
	if at+need > end {
		return nil, nil, ErrFeedback
	}
	return b[feedbackHead:at], b[at : at+need], nil
}

// symbols is how many of the packets left a chunk tells of, and the bytes of
// their deltas (§3.1.2 to §3.1.4).
func symbols(c uint16, left int) (n, bytes int) {
	switch {
	case c&0x8000 == 0:
		n = min(int(c&0x1fff), left)
		return n, n * width(c>>13&3)
	case c&0x4000 == 0:
		n = min(14, left)
	default:
		n = min(7, left)
	}
	for i := range n {
		bytes += width(symbol(c, i))
	}
	return n, bytes
}

// symbol is the status of the i-th packet of a chunk.
func symbol(c uint16, i int) uint16 {
	switch {
	case c&0x8000 == 0:
		return c >> 13 & 3
	case c&0x4000 == 0:
		return c >> (13 - i) & 1
	default:
		return c >> (12 - 2*i) & 3
	}
}

// width is the bytes of the delta of a status.
func width(symbol uint16) int {
	if symbol == rtcp.TypeTCCPacketReceivedWithoutDelta {
		return 0
	}
	return int(symbol)
}

// Feedback takes the viewer's feedback as package rtcp gives it; p is not
// retained. FeedbackBytes costs no garbage.
func (e *Estimator) Feedback(now time.Time, p *rtcp.TransportLayerCC) {
	t := e.clock(now)
	r, ok := e.begin(t, p.BaseSequenceNumber, p.ReferenceTime)
	if !ok {
		return
	}
	left, deltas := int(p.PacketStatusCount), p.RecvDeltas
	take := func(s uint16) bool {
		left--
		var delta time.Duration
		if width(s) > 0 {
			if len(deltas) == 0 || deltas[0] == nil {
				return false
			}
			units := min(max(deltas[0].Delta/rtcp.TypeTCCDeltaScaleFactor, math.MinInt16), math.MaxInt16)
			delta, deltas = time.Duration(units)*deltaUnit, deltas[1:]
		}
		return e.status(&r, s, delta)
	}
walk:
	for _, chunk := range p.PacketChunks {
		switch c := chunk.(type) {
		case *rtcp.RunLengthChunk:
			for range min(left, int(c.RunLength)) {
				if !take(c.PacketStatusSymbol) {
					break walk
				}
			}
		case *rtcp.StatusVectorChunk:
			for _, s := range c.SymbolList[:min(left, len(c.SymbolList))] {
				if !take(s) {
					break walk
				}
			}
		}
	}
	e.end(&r)
}

// begin opens a report; not ok if it begins with a packet that was never sent.
func (e *Estimator) begin(t time.Duration, base uint16, ref uint32) (r report, ok bool) {
	seq := e.history.extend(base)
	if seq >= e.history.next {
		return r, false
	}
	e.heard()
	e.twcc = t
	e.pass(seq)
	return report{now: t, seq: seq, arrive: e.reference.unwrap(ref), newest: -1}, true
}

// pass takes the packets before seq that no feedback told of: that feedback was
// lost, not they. What they carried counts with the next that arrives.
func (e *Estimator) pass(seq int64) {
	for s := max(e.told, e.history.oldest); s < seq; s++ {
		if p := e.history.at(s); p.state == unknown {
			p.state = passed
			e.missed += float64(p.size)
		}
	}
}

// status takes what the feedback says of the next packet: its symbol and, if
// that has one, its delta. False ends the walk: no later packet was sent.
func (e *Estimator) status(r *report, symbol uint16, delta time.Duration) bool {
	seq := r.seq
	r.seq++
	r.arrive += delta
	if !e.history.holds(seq) {
		return seq < e.history.next
	}
	p := e.history.at(seq)
	if symbol == rtcp.TypeTCCPacketNotReceived {
		if p.state == unknown || p.state == passed {
			p.state = lost
			if e.config.Lost != nil {
				e.config.Lost(uint16(seq))
			}
			e.loss.count(p, 0, 1)
			e.probe.miss(p, 1)
		}
		return true
	}
	if p.state == received {
		return true
	}
	size := float64(p.size)
	switch p.state {
	case lost:
		e.loss.count(p, 0, -1)
		e.probe.miss(p, -1)
	case passed: // counted already
		size = 0
	}
	p.state = received
	e.loss.count(p, 1, 0)
	age := e.history.age(p, r.now)
	r.newest = age
	if symbol == rtcp.TypeTCCPacketReceivedWithoutDelta {
		return true
	}
	e.arrived(p, age, r.now-age, r.arrive)
	e.delivered.add(r.arrive, size+e.missed)
	e.missed = 0
	return true
}

// arrived takes a packet's times.
func (e *Estimator) arrived(p *record, age, sent, arrive time.Duration) {
	delay, queued := arrive-sent, time.Duration(p.queued)*time.Microsecond
	// the queue cannot have held it for longer than it is away
	if base, ok := e.base.value(); ok && ((delay-e.lastDelay).Abs() > clockJump || delay-base > age+clockSlack) {
		e.restart()
	}
	e.lastDelay = delay
	e.base.add(arrive, delay)
	e.floor.add(arrive, delay)
	if base, ok := e.base.value(); ok {
		e.unexplained.add(arrive, max(0, delay-base-queued))
	}
	e.probe.add(p, sent, arrive)
	if d, ok := e.group.add(sent, arrive, queued); ok {
		e.trend.add(d)
	}
}

// restart forgets times that a jump of the viewer's clock made incomparable.
func (e *Estimator) restart() {
	e.base.reset()
	e.floor.reset()
	e.unexplained.reset()
	e.delivered.reset()
	e.group = group{}
	e.trend.reset()
}

// end draws the conclusions.
func (e *Estimator) end(r *report) {
	if r.newest >= 0 {
		e.rtts.add(r.now, r.newest)
		e.roundTrip.add(r.now, r.newest)
		e.rtt, _ = e.rtts.value()
	}
	e.told = max(e.told, min(r.seq, e.history.next))
	e.control(r.now)
	if e.probe.pending && e.probe.last < r.seq {
		e.judge(r.now)
	} else {
		e.cutShort(r.now)
	}
}
