// Package receive is what sources that take RTP have in common: packets
// become access units again, and are told when they were captured.
package receive

import (
	"fmt"
	"time"

	"github.com/pion/rtp"

	"edged/capture"
)

// The bounds of one access unit.
const (
	maxUnit  = 4 << 20 // bytes
	maxParts = 2048
)

// foreignLimit is how many packets in a row may make no sense in the announced
// codec before the camera is said to send another.
const foreignLimit = 64

// repeatMost is how far back a packet may be to be one that was there before,
// or that came too late: the unit that lacked it is gone. What is further back
// is another beginning.
const repeatMost = 64

// Unit is an access unit as received.
type Unit struct {
	Parts    [][]byte // as [capture.Bitstream] takes them
	RTPTime  uint32
	Captured time.Time
	Lost     bool // something before it was lost
}

// Assembler puts access units together, in spite of the quirks of cameras. A
// unit with a hole is left out and the next one says so. The memory of a unit
// is valid until Out returns. One goroutine uses it.
type Assembler struct {
	Out      func(Unit) error            // takes each whole unit; its errors are Push's
	Captured func(*rtp.Packet) time.Time // asked for the first packet of a unit

	format payloadFormat

	synced  bool   // next is known
	next    uint16 // sequence number
	ssrc    uint32 // of the last packet
	foreign int    // packets in a row that make no sense in the format

	// the unit in the making
	active  bool
	rtpTime uint32
	seen    time.Time
	damaged bool
	open    bool   // the last part waits for more fragments
	buf     []byte // NAL units, OBUs or the one frame, one after the other
	ends    []int  // where each ends in buf

	lost    bool // since the last unit given out
	dropped uint64
	missing uint64 // packets

	parts [][]byte // scratch
}

// Begin says which video codec the packets are of, before the first Push.
func (a *Assembler) Begin(codec capture.Codec) { a.format = payloadFormats[codec] }

// Begun tells whether a packet has come.
func (a *Assembler) Begun() bool { return a.synced }

// Push takes the next packet in order, whatever its sequence number says of
// those that are missing before it; one that is repeated, or late, is left out.
// It does not retain p. Errors are final.
func (a *Assembler) Push(p *rtp.Packet) error {
	if back := a.next - p.SequenceNumber; a.synced && p.SSRC == a.ssrc && back > 0 && back <= repeatMost {
		return nil
	}
	a.ssrc = p.SSRC
	gap := a.synced && p.SequenceNumber != a.next
	if gap {
		if n := p.SequenceNumber - a.next; n < 1<<15 {
			a.missing += uint64(n)
		}
		a.lost = true
	}
	joining := !a.synced
	a.synced, a.next = true, p.SequenceNumber+1

	if a.active && p.Timestamp != a.rtpTime {
		// No marker: some cameras never set it. After a gap the tail may be lost.
		a.damaged = a.damaged || gap
		if err := a.finish(); err != nil {
			return err
		}
	}
	if !a.active {
		a.active, a.rtpTime, a.seen = true, p.Timestamp, a.Captured(p)
		a.damaged = (gap || joining) && !a.format.begins(p.Payload)
	} else if gap {
		a.damaged = true
	}
	if err := a.payload(p.Payload); err != nil {
		return err
	}
	if p.Marker {
		return a.finish()
	}
	return nil
}

func (a *Assembler) payload(b []byte) error {
	if len(b) == 0 { // padding only: some cameras keep the path open so
		return nil
	}
	if a.format.take(a, b) {
		a.foreign = 0
	} else if err := a.Stranger(); err != nil {
		return err
	}
	if len(a.buf) > maxUnit {
		a.buf, a.ends, a.active, a.open = nil, nil, false, false
		return capture.Errorf(capture.CodeProtocol, "an access unit of more than %d bytes", maxUnit)
	}
	if len(a.ends) > maxParts {
		a.buf, a.ends, a.active, a.open = nil, nil, false, false
		return capture.Errorf(capture.CodeProtocol, "an access unit of more than %d parts", maxParts)
	}
	return nil
}

// Stranger counts a packet that makes no sense in the format.
func (a *Assembler) Stranger() error {
	if a.foreign++; a.foreign < foreignLimit {
		return nil
	}
	return capture.Errorf(capture.CodeCodec, "the camera announced %s, but %d packets in a row are not", a.format.name, a.foreign)
}

// breakOff notes that a fragmented part did not come to its end.
func (a *Assembler) breakOff() {
	if a.open {
		a.open, a.damaged = false, true
	}
}

// add begins a part.
func (a *Assembler) add(b []byte) {
	a.buf = append(a.buf, b...)
	a.ends = append(a.ends, len(a.buf))
}

// extend goes on with the last part.
func (a *Assembler) extend(b []byte) {
	if len(a.ends) == 0 {
		a.damaged = true
		return
	}
	a.buf = append(a.buf, b...)
	a.ends[len(a.ends)-1] = len(a.buf)
}

// finish gives the unit out, if it is whole, and begins anew.
func (a *Assembler) finish() error {
	a.breakOff()
	damaged := a.damaged
	parts, at := a.parts[:0], 0
	for _, end := range a.ends {
		parts = a.format.split(parts, a.buf[at:end])
		at = end
	}
	a.parts = parts
	u := Unit{Parts: parts, RTPTime: a.rtpTime, Captured: a.seen, Lost: a.lost}
	a.active, a.damaged, a.buf, a.ends = false, false, a.buf[:0], a.ends[:0]
	if damaged {
		a.lost = true
		a.dropped++
		return nil
	}
	if len(parts) == 0 {
		return nil
	}
	a.lost = false
	return a.Out(u)
}

// String says what was lost, for the log.
func (a *Assembler) String() string {
	return fmt.Sprintf("%d packets missing, %d access units dropped", a.missing, a.dropped)
}
