package bwe

import (
	"math"
	"time"
)

const (
	historyLeast = 256  // packets
	historyMost  = 4096 // a second at 40 Mbit/s
	historyGrow  = 2 * time.Second
)

// What is known of a packet.
const (
	unknown = iota
	received
	lost
	passed // a feedback that was lost may have told of it: taken as arrived
)

// record is a packet on the way.
type record struct {
	at     uint32 // µs, wraps after 71 minutes; forgetAfter keeps records far younger than that
	queued uint32 // µs in the virtual queue
	size   uint16
	probe  uint8 // cluster, 0 none
	state  uint8
}

// history holds the packets [oldest, next) by their extended sequence number.
// Its length is a power of two.
type history struct {
	records      []record
	oldest, next int64
}

func (h *history) init() { h.records = make([]record, historyLeast) }

func (h *history) at(seq int64) *record { return &h.records[seq&int64(len(h.records)-1)] }

func (h *history) forget() { h.oldest = h.next }

func micros(t time.Duration) uint32 { return uint32(t / time.Microsecond) }

// add appends a packet. When the history is full it grows while its oldest
// packet may still be reported, up to historyMost.
func (h *history) add(t, queued time.Duration, size int, probe uint8) (seq uint16) {
	if h.next-h.oldest == int64(len(h.records)) {
		oldest := h.at(h.oldest)
		if oldest.state == unknown && len(h.records) < historyMost && h.age(oldest, t) < historyGrow {
			h.grow()
		} else {
			h.oldest++
		}
	}
	seq = uint16(h.next)
	*h.at(h.next) = record{at: micros(t), queued: micros(queued), size: uint16(size), probe: probe}
	h.next++
	return seq
}

func (h *history) grow() {
	old := *h
	h.records = make([]record, 2*len(old.records))
	for s := old.oldest; s < old.next; s++ {
		*h.at(s) = *old.at(s)
	}
}

// age is how long before t the packet was sent.
func (h *history) age(r *record, t time.Duration) time.Duration {
	return time.Duration(micros(t)-r.at) * time.Microsecond
}

// extend finds the extended sequence number nearest to the newest packet.
func (h *history) extend(seq uint16) int64 {
	return h.next - 1 + int64(int16(seq-uint16(h.next-1)))
}

// holds reports whether the packet was sent and is remembered.
func (h *history) holds(seq int64) bool { return h.oldest <= seq && seq < h.next }

// throughput remembers when bytes arrived, by the viewer's clock.
type throughput struct {
	spells [128]spell
	head   int // of the newest
	n      int
}

// spell is bytes that arrived within spellSpan.
type spell struct {
	first, last time.Duration
	bytes       float64
}

const spellSpan = 8 * time.Millisecond

func (p *throughput) newest() *spell { return &p.spells[p.head] }

func (p *throughput) reset() { p.n = 0 }

// add counts size bytes that arrived at t.
func (p *throughput) add(t time.Duration, size float64) {
	if p.n > 0 {
		s := p.newest()
		if t < s.first-time.Second { // the viewer's clock went back
			p.n = 0
		} else if t < s.first+spellSpan {
			s.bytes += size
			s.last = max(s.last, t)
			return
		}
	}
	p.head = (p.head + 1) % len(p.spells)
	p.spells[p.head] = spell{first: t, last: t, bytes: size}
	p.n = min(p.n+1, len(p.spells))
}

// since is the rate in bits/s from the first spell that begins at or after t
// to the newest; not ok when they are less than least apart. What that first
// spell carried is not counted: its time is before it.
func (p *throughput) since(t, least time.Duration) (rate float64, ok bool) {
	if p.n < 2 {
		return 0, false
	}
	end, bytes := p.newest().last, 0.0
	var begin time.Duration = math.MaxInt64
	for i := range p.n {
		s := &p.spells[(p.head+len(p.spells)-i)%len(p.spells)]
		if s.first < t {
			break
		}
		if begin != math.MaxInt64 {
			bytes += p.spells[(p.head+len(p.spells)-i+1)%len(p.spells)].bytes
		}
		begin = s.last
	}
	span := end - begin
	if begin == math.MaxInt64 || span < least || span <= 0 {
		return 0, false
	}
	return bytes * 8 / span.Seconds(), true
}

// most is the highest rate of those spells that end with the newest, take at
// least least, and begin at or after t or took no more than enough.
func (p *throughput) most(t, least, enough time.Duration) (rate float64) {
	if p.n == 0 {
		return 0
	}
	end, bytes := p.newest().last, p.newest().bytes
	for i := 1; i < p.n; i++ {
		s := &p.spells[(p.head+len(p.spells)-i)%len(p.spells)]
		span := end - s.last
		if s.first < t && span > enough {
			break
		}
		if span >= least {
			rate = max(rate, bytes*8/span.Seconds())
		}
		bytes += s.bytes
	}
	return rate
}
