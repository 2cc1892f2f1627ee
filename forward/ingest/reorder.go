package ingest

import (
	"time"

	"github.com/pion/rtp"
)

const (
	window      = 512                    // packets that may wait for a missing one
	holdRepair  = 250 * time.Millisecond // for a packet that was asked for again
	holdBriefly = 40 * time.Millisecond  // for one that may only be late
	holdSound   = 80 * time.Millisecond  // sound has no use for late packets

	askAfter = 5 * time.Millisecond  // a packet that is only out of order has come by then
	askAgain = 40 * time.Millisecond // while the round-trip time is unknown, and at least half of it
	askMost  = 5                     // times for one packet
)

// seat is where a packet waits for its turn.
type seat struct {
	state   seatState
	since   time.Time // held: when it came; missing: when that was noticed
	asked   time.Time // missing: when it was asked for last
	times   int       // that it was asked for
	rtpTime uint32
	marker  bool
	payload []byte
}

type seatState uint8

const (
	empty seatState = iota
	missing
	held
)

// reorder puts packets in the order of their sequence numbers. It holds those
// that came before their turn for a while, and says which are missing. What it
// holds is bounded.
type reorder struct {
	hold time.Duration
	out  func(p *rtp.Packet, at time.Time) error

	begun  bool
	next   uint16 // that is given out next
	newest uint16 // that came; before next where none waits
	holes  int    // seats between them whose packets are missing
	stray  uint16 // that follows on a packet far off
	far    bool   // there was one
	ring   [window]seat
	rtt    time.Duration // from asking to coming, smoothed; 0: unknown
	asks   []uint16      // scratch
	packet rtp.Packet    // likewise

	lost, repeated uint64 // packets given up; that came twice, or late
}

func newReorder(hold time.Duration, out func(*rtp.Packet, time.Time) error) *reorder {
	return &reorder{hold: hold, out: out}
}

func (r *reorder) seat(seq uint16) *seat { return &r.ring[seq%window] }

// restart forgets what waits: the next packet is the first.
func (r *reorder) restart() {
	for i := range r.ring {
		r.ring[i].state = empty
	}
	r.begun, r.holes, r.far = false, 0, false
}

// push takes a packet as it came; repeated: it was sent again as RTX. It does
// not retain p.
func (r *reorder) push(p *rtp.Packet, repeated bool, at time.Time) error {
	seq := p.SequenceNumber
	if !r.begun {
		r.begun, r.next, r.newest = true, seq, seq-1
	}
	ahead := int(int16(seq - r.next))
	switch {
	case !repeated && (ahead >= window || ahead < -window):
		return r.jump(p, at)
	case ahead < 0 || ahead >= window:
		r.repeated++
		return nil
	case ahead == 0:
		return r.turn(p, at)
	}
	r.far = false
	r.wait(p, at)
	return nil
}

// turn gives out the packet whose turn it is, and those that waited for it.
func (r *reorder) turn(p *rtp.Packet, at time.Time) error {
	r.far = false
	if s := r.seat(r.next); s.state == missing {
		r.came(s, at)
	}
	if int16(r.newest-r.next) < 0 {
		r.newest = r.next
	}
	r.next++
	if err := r.out(p, at); err != nil {
		return err
	}
	return r.follow()
}

// follow gives out the packets that waited for the one before.
func (r *reorder) follow() error {
	for s := r.seat(r.next); s.state == held; s = r.seat(r.next) {
		p := &r.packet
		p.SequenceNumber, p.Timestamp, p.Marker, p.Payload = r.next, s.rtpTime, s.marker, s.payload
		s.state = empty
		r.next++
		if err := r.out(p, s.since); err != nil {
			return err
		}
	}
	return nil
}

// wait keeps a packet until its turn comes.
func (r *reorder) wait(p *rtp.Packet, at time.Time) {
	seq := p.SequenceNumber
	for q := r.newest + 1; int16(q-seq) < 0; q++ {
		s := r.seat(q)
		s.state, s.since, s.asked, s.times = missing, at, time.Time{}, 0
		r.holes++
	}
	s := r.seat(seq)
	switch s.state {
	case held:
		r.repeated++
		return
	case missing:
		r.came(s, at)
	}
	if int16(seq-r.newest) > 0 {
		r.newest = seq
	}
	s.payload = append(s.payload[:0], p.Payload...)
	s.state, s.since, s.rtpTime, s.marker = held, at, p.Timestamp, p.Marker
}

// came notes that a missing packet is not missing any more.
func (r *reorder) came(s *seat, at time.Time) {
	if s.times == 1 {
		took := at.Sub(s.asked)
		if r.rtt == 0 {
			r.rtt = took
		}
		r.rtt += (took - r.rtt) / 8
	}
	s.state = empty
	r.holes--
}

// jump takes a packet far from the others. Two in a row are another beginning
// (RFC 3550 §A.1); one alone is nothing.
func (r *reorder) jump(p *rtp.Packet, at time.Time) error {
	if !r.far || p.SequenceNumber != r.stray {
		r.far, r.stray = true, p.SequenceNumber+1
		return nil
	}
	if err := r.flush(); err != nil {
		return err
	}
	r.next, r.newest = p.SequenceNumber, p.SequenceNumber-1
	return r.turn(p, at)
}

// flush gives out all that waits.
func (r *reorder) flush() error {
	for int16(r.newest-r.next) >= 0 {
		if err := r.skip(); err != nil {
			return err
		}
	}
	return nil
}

// skip gives up the packets whose turn it is, up to one that came.
func (r *reorder) skip() error {
	for int16(r.newest-r.next) >= 0 && r.seat(r.next).state != held {
		if s := r.seat(r.next); s.state == missing {
			s.state = empty
			r.holes--
			r.lost++
		}
		r.next++
	}
	return r.follow()
}

// expire gives up what has been missing for too long.
func (r *reorder) expire(now time.Time) error {
	for r.holes > 0 {
		if s := r.seat(r.next); s.state == missing && now.Sub(s.since) < r.hold {
			return nil
		}
		if err := r.skip(); err != nil {
			return err
		}
	}
	return nil
}

// due lists the packets to ask for now; valid until the next call.
func (r *reorder) due(now time.Time) []uint16 {
	r.asks = r.asks[:0]
	if r.holes == 0 {
		return nil
	}
	again := max(askAgain/2, r.rtt*3/2)
	if r.rtt == 0 {
		again = askAgain
	}
	for q := r.next; int16(r.newest-q) > 0; q++ {
		s := r.seat(q)
		if s.state != missing || s.times >= askMost || now.Sub(s.since) < askAfter || now.Sub(s.asked) < again {
			continue
		}
		s.asked = now
		s.times++
		r.asks = append(r.asks, q)
	}
	return r.asks
}
