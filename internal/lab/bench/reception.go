package bench

import (
	"encoding/binary"
	"errors"
)

// window is how many packets a hole may stay open before it counts as lost:
// about two seconds of 720p at 2.5 Mbit/s, more than any retransmission takes.
const window = 512

// Counts are what one viewer has received, or the difference of two moments.
type Counts struct {
	Packets uint64 // received, late ones included, duplicates not
	Bytes   uint64 // RTP header and payload, as decrypted
	Lost    uint64 // sequence numbers that never came
	Frames  uint64 // complete frames: every packet, up to the marker
	Broken  uint64 // frames with a packet missing
	Skipped uint64 // frames that the RTP time says were left out without a hole in the sequence
}

// Sub gives what was received since an earlier moment.
func (c Counts) Sub(o Counts) Counts {
	return Counts{c.Packets - o.Packets, c.Bytes - o.Bytes, c.Lost - o.Lost, c.Frames - o.Frames, c.Broken - o.Broken, c.Skipped - o.Skipped}
}

// Add sums the counts of several viewers.
func (c Counts) Add(o Counts) Counts {
	return Counts{c.Packets + o.Packets, c.Bytes + o.Bytes, c.Lost + o.Lost, c.Frames + o.Frames, c.Broken + o.Broken, c.Skipped + o.Skipped}
}

// packet is what is kept of one packet until its turn comes.
type packet struct {
	here   bool
	marker bool
	time   uint32 // RTP
	start  nal    // what begins in this packet
}

// nal is a set of what one H.264 packet begins (RFC 6184 §5.2).
type nal uint8

const (
	parameters nal = 1 << iota // a sequence parameter set
	idr                        // a slice of an IDR picture
)

// Reception follows one H.264 stream packet by packet. A retransmitted packet
// that fills its hole in time leaves no trace; what is judged is what a
// decoder would be given. It is not safe for concurrent use.
type Reception struct {
	// Step is the RTP time between two frames, for Skipped; 0: not judged.
	Step uint32

	Counts
	Decodable bool // a whole keyframe with its parameter sets has come

	slots   [window]packet
	began   bool
	next    uint64 // extended sequence number whose turn it is
	highest uint64 // newest one received
	frame   assembly
}

// assembly is the frame whose packets are having their turn.
type assembly struct {
	open   bool
	broken bool
	time   uint32
	began  nal
	last   uint32 // RTP time of the frame before
	some   bool   // there was a frame before
}

var errPacket = errors.New("not an RTP packet")

// Packet takes one decrypted RTP packet (RFC 3550 §5.1).
func (r *Reception) Packet(b []byte) error {
	payload, err := payloadOf(b)
	if err != nil {
		return err
	}
	seq := r.extend(binary.BigEndian.Uint16(b[2:]))
	if seq < r.next {
		return nil // a duplicate, or later than its hole was given up
	}
	for seq >= r.next+window { // the slot is still waited for: give up the oldest hole
		r.turn()
	}
	slot := &r.slots[seq%window]
	if slot.here {
		return nil
	}
	*slot = packet{here: true, marker: b[1]&0x80 != 0, time: binary.BigEndian.Uint32(b[4:]), start: nalsOf(payload)}
	r.Packets++
	r.Bytes += uint64(len(b))
	r.highest = max(r.highest, seq)
	for r.next <= r.highest && r.slots[r.next%window].here {
		r.turn()
	}
	return nil
}

// Flush gives up every open hole: call it when nothing more will come.
func (r *Reception) Flush() {
	for r.began && r.next <= r.highest {
		r.turn()
	}
}

// extend maps a 16-bit sequence number to the nearest extended one.
func (r *Reception) extend(seq uint16) uint64 {
	if !r.began {
		r.began = true
		r.next = 1<<16 + uint64(seq) // room below for packets that overtook the first
		r.highest = r.next
		return r.next
	}
	return uint64(int64(r.highest) + int64(int16(seq-uint16(r.highest))))
}

// turn takes the next packet, or its absence, into the frame.
func (r *Reception) turn() {
	p := r.slots[r.next%window]
	r.slots[r.next%window] = packet{}
	r.next++
	r.highest = max(r.highest, r.next-1)
	f := &r.frame
	if !p.here {
		r.Lost++
		f.broken = true
		f.open = true // a hole belongs to a frame, even where nothing of it came
		return
	}
	if f.open && f.began != 0 && p.time != f.time {
		r.finish(true) // its marker was lost
	}
	f.open, f.time = true, p.time
	f.began |= p.start | some
	if p.marker {
		r.finish(f.broken)
	}
}

// some marks an assembly that has a packet, so that its time is known.
const some nal = 1 << 7

func (r *Reception) finish(broken bool) {
	f := &r.frame
	if broken {
		r.Broken++
	} else {
		r.Frames++
		if f.began&(parameters|idr) == parameters|idr {
			r.Decodable = true
		}
	}
	if f.some && r.Step > 0 {
		if d := f.time - f.last; d < 1<<31 && d > r.Step+r.Step/2 {
			r.Skipped += uint64((d+r.Step/2)/r.Step) - 1
		}
	}
	r.frame = assembly{last: f.time, some: true}
}

// payloadOf checks the header and cuts off what surrounds the payload.
func payloadOf(b []byte) ([]byte, error) {
	if len(b) < 12 || b[0]>>6 != 2 {
		return nil, errPacket
	}
	from := 12 + 4*int(b[0]&15)
	if b[0]&0x10 != 0 {
		if len(b) < from+4 {
			return nil, errPacket
		}
		from += 4 + 4*int(binary.BigEndian.Uint16(b[from+2:]))
	}
	to := len(b)
	if b[0]&0x20 != 0 {
		to -= int(b[len(b)-1])
	}
	if from > to {
		return nil, errPacket
	}
	return b[from:to], nil
}

// nalsOf says what an RFC 6184 payload begins: single NAL unit, STAP-A or FU-A.
func nalsOf(p []byte) nal {
	if len(p) < 2 {
		return 0
	}
	switch p[0] & 31 {
	case 24: // STAP-A
		var n nal
		for p = p[1:]; len(p) > 2; {
			size := int(binary.BigEndian.Uint16(p))
			n |= nalOf(p[2])
			if len(p) < 2+size {
				return n
			}
			p = p[2+size:]
		}
		return n
	case 28: // FU-A: counts where it starts
		if p[1]&0x80 == 0 {
			return 0
		}
		return nalOf(p[1])
	default:
		return nalOf(p[0])
	}
}

func nalOf(header byte) nal {
	switch header & 31 {
	case 5:
		return idr
	case 7:
		return parameters
	default:
		return 0
	}
}
