package rtsp

import (
	"bytes"
	"fmt"
	"time"

	"github.com/pion/rtp"

	"edged/capture"
)

// The bounds of one access unit.
const (
	maxUnit  = 4 << 20 // bytes
	maxNALUs = 2048
)

// Packet types of RFC 6184, table 1.
const (
	typeSTAPA = 24
	typeFUA   = 28
)

// foreignLimit is how many packets in a row may make no sense as H.264 before
// the camera is said to send another codec.
const foreignLimit = 64

// unit is an access unit as received.
type unit struct {
	nalus    [][]byte
	rtpTime  uint32
	captured time.Time
	lost     bool // something before it was lost
}

// assembler puts access units together (RFC 6184, non-interleaved mode and
// the quirks of cameras). A unit with a hole is left out and the next one
// says so. The memory of a unit is valid until its callback returns.
type assembler struct {
	out      func(unit) error
	captured func(*rtp.Packet) time.Time // asked for the first packet of a unit

	synced  bool   // next is known
	next    uint16 // sequence number
	foreign int    // packets in a row that are no H.264

	// the unit in the making
	active  bool
	rtpTime uint32
	seen    time.Time
	damaged bool
	open    bool   // the last NAL unit waits for more fragments
	buf     []byte // NAL units, one after the other
	ends    []int  // where each ends in buf

	lost    bool // since the last unit given out
	dropped uint64
	missing uint64 // packets

	nalus [][]byte // scratch
}

// push takes the next packet in order. Errors are final.
func (a *assembler) push(p *rtp.Packet) error {
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
		a.active, a.rtpTime, a.seen = true, p.Timestamp, a.captured(p)
		a.damaged = (gap || joining) && !startsPicture(p.Payload)
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

// startsPicture tells whether nothing of the picture can stand before this
// payload: it leads with a parameter set or the like, or with the slice whose
// first_mb_in_slice is 0, which is a single one bit in ue(v).
func startsPicture(b []byte) bool {
	if len(b) > 3 && b[0]&0x1f == typeSTAPA {
		b = b[3:]
	}
	if len(b) < 2 {
		return false
	}
	switch t := b[0] & 0x1f; {
	case t == 1 || t == 5:
		return b[1]&0x80 != 0
	case t >= 6 && t <= 9:
		return true
	case t == typeFUA && len(b) > 2 && b[1]&0x80 != 0:
		t = b[1] & 0x1f
		return t >= 6 && t <= 9 || (t == 1 || t == 5) && b[2]&0x80 != 0
	}
	return false
}

func (a *assembler) payload(b []byte) error {
	if len(b) == 0 { // padding only: some cameras keep the path open so
		return nil
	}
	t := b[0] & 0x1f
	ok := b[0]&0x80 == 0 // forbidden_zero_bit
	switch {
	case t == 1 || t >= 5 && t <= 15 || t >= 19 && t <= 21:
		a.breakOff()
		a.add(b)
	case t == typeSTAPA:
		a.breakOff()
		ok = a.aggregate(b[1:]) && ok
	case t == typeFUA:
		ok = a.fragment(b) && ok
	default: // data partitions, interleaved modes, reserved: no camera means it
		a.damaged = true
		ok = false
	}
	if ok {
		a.foreign = 0
	} else if err := a.stranger(); err != nil {
		return err
	}
	if len(a.buf) > maxUnit {
		a.buf, a.ends, a.active, a.open = nil, nil, false, false
		return capture.Errorf(capture.CodeProtocol, "an access unit of more than %d bytes", maxUnit)
	}
	if len(a.ends) > maxNALUs {
		a.buf, a.ends, a.active, a.open = nil, nil, false, false
		return capture.Errorf(capture.CodeProtocol, "an access unit of more than %d NAL units", maxNALUs)
	}
	return nil
}

// stranger counts a packet that is no H.264.
func (a *assembler) stranger() error {
	if a.foreign++; a.foreign < foreignLimit {
		return nil
	}
	return capture.Errorf(capture.CodeCodec, "the camera announced H.264, but %d packets in a row are not", a.foreign)
}

// breakOff notes that a fragmented NAL unit did not come to its end.
func (a *assembler) breakOff() {
	if a.open {
		a.open, a.damaged = false, true
	}
}

func (a *assembler) add(nalu []byte) {
	a.buf = append(a.buf, nalu...)
	a.ends = append(a.ends, len(a.buf))
}

// aggregate takes a STAP-A apart (RFC 6184, 5.7.1). Zeros may pad it.
func (a *assembler) aggregate(b []byte) bool {
	for len(b) >= 2 {
		n := int(b[0])<<8 | int(b[1])
		b = b[2:]
		if n == 0 {
			return len(bytes.Trim(b, "\x00")) == 0
		}
		if n > len(b) {
			a.damaged = true
			return false
		}
		a.add(b[:n])
		b = b[n:]
	}
	return len(b) == 0
}

// fragment takes a FU-A (RFC 6184, 5.8). Start and end in one, which the RFC
// forbids, is what some cameras send for a small picture.
func (a *assembler) fragment(b []byte) bool {
	if len(b) < 2 {
		a.damaged = true
		return false
	}
	const start, end = 0x80, 0x40
	if b[1]&start != 0 {
		a.breakOff()
		a.open = true
		a.add([]byte{b[0]&0xe0 | b[1]&0x1f})
	} else if !a.open {
		a.damaged = true
		return true
	}
	a.buf = append(a.buf, b[2:]...)
	a.ends[len(a.ends)-1] = len(a.buf)
	if b[1]&end != 0 {
		a.open = false
	}
	return true
}

// finish gives the unit out, if it is whole, and begins anew.
func (a *assembler) finish() error {
	a.breakOff()
	damaged := a.damaged
	nalus, at := a.nalus[:0], 0
	for _, end := range a.ends {
		nalus = appendUnits(nalus, a.buf[at:end])
		at = end
	}
	a.nalus = nalus
	u := unit{nalus: nalus, rtpTime: a.rtpTime, captured: a.seen, lost: a.lost}
	a.active, a.damaged, a.buf, a.ends = false, false, a.buf[:0], a.ends[:0]
	if damaged {
		a.lost = true
		a.dropped++
		return nil
	}
	if len(nalus) == 0 {
		return nil
	}
	a.lost = false
	return a.out(u)
}

// appendUnits takes out the start codes that some cameras leave in: a NAL
// unit cannot contain one (ITU-T H.264, 7.4.1).
func appendUnits(dst [][]byte, b []byte) [][]byte {
	code := []byte{0, 0, 1}
	at := bytes.Index(b, code)
	if at < 0 {
		return append(dst, b)
	}
	if head := bytes.TrimRight(b[:at], "\x00"); len(head) > 0 {
		dst = append(dst, head)
	}
	return capture.SplitAnnexB(dst, b[at:])
}

// String says what was lost, for the log.
func (a *assembler) String() string {
	return fmt.Sprintf("%d packets missing, %d access units dropped", a.missing, a.dropped)
}
