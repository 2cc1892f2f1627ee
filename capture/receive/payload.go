package receive

import (
	"bytes"

	"edged/capture"
)

// payloadFormat is what sets the RTP payload formats apart.
type payloadFormat struct {
	name string // for people
	// begins tells whether nothing of the picture can stand before a payload.
	begins func(b []byte) bool
	// take adds a payload, which is not empty, to the unit in the making. It
	// reports false for one that makes no sense in the format.
	take func(a *Assembler, b []byte) bool
	// split appends what a part as received is in truth.
	split func(dst [][]byte, part []byte) [][]byte
}

var payloadFormats = map[capture.Codec]payloadFormat{
	capture.H264: {"H.264", beginsH264, takeH264, appendUnits},
	capture.H265: {"H.265", beginsH265, takeH265, appendUnits},
	capture.VP8:  {"VP8", beginsVP8, takeVP8, appendWhole},
	capture.VP9:  {"VP9", beginsVP9, takeVP9, appendWhole},
	capture.AV1:  {"AV1", beginsAV1, takeAV1, appendWhole},
}

// Packet types of RFC 6184, table 1, and RFC 7798, 4.4.
const (
	typeSTAPA = 24
	typeFUA   = 28
	typeAP    = 48
	typeFU    = 49
)

// beginsH264: it leads with a parameter set or the like, or with the slice
// whose first_mb_in_slice is 0, which is a single one bit in ue(v).
func beginsH264(b []byte) bool {
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

// takeH264 takes RFC 6184's single NAL unit and non-interleaved modes.
func takeH264(a *Assembler, b []byte) bool {
	ok := b[0]&0x80 == 0 // forbidden_zero_bit
	switch t := b[0] & 0x1f; {
	case t == 1 || t >= 5 && t <= 15 || t >= 19 && t <= 21:
		a.breakOff()
		a.add(b)
	case t == typeSTAPA:
		a.breakOff()
		return a.aggregate(b[1:]) && ok
	case t == typeFUA && len(b) >= 2:
		// Start and end in one, which 5.8 forbids, is what some cameras send
		// for a small picture.
		a.fragment(b[1], []byte{b[0]&0xe0 | b[1]&0x1f}, b[2:])
	default: // data partitions, interleaved modes, reserved: no camera means it
		a.damaged = true
		return false
	}
	return ok
}

// beginsH265 is beginsH264 for NAL units of H.265, whose slices have the flag
// first_slice_segment_in_pic_flag in front.
func beginsH265(b []byte) bool {
	if len(b) > 4 && b[0]>>1&0x3f == typeAP {
		b = b[4:]
	}
	if len(b) < 3 {
		return false
	}
	t, slice := b[0]>>1&0x3f, b[2]
	if t == typeFU {
		if len(b) < 4 || b[2]&0x80 == 0 {
			return false
		}
		t, slice = b[2]&0x3f, b[3]
	}
	return t >= 32 && t <= 35 || t == 39 || t < 32 && slice&0x80 != 0
}

// takeH265 takes RFC 7798 without decoding order numbers.
func takeH265(a *Assembler, b []byte) bool {
	if len(b) < 3 || b[0]&0x80 != 0 { // forbidden_zero_bit
		a.damaged = true
		return false
	}
	switch t := b[0] >> 1 & 0x3f; {
	case t < typeAP:
		a.breakOff()
		a.add(b)
	case t == typeAP:
		a.breakOff()
		return a.aggregate(b[2:])
	case t == typeFU:
		a.fragment(b[2], []byte{b[0]&0x81 | b[2]&0x3f<<1, b[1]}, b[3:])
	default: // PACI, reserved
		a.damaged = true
		return false
	}
	return true
}

// aggregate takes NAL units behind their lengths (RFC 6184, 5.7.1; RFC 7798,
// 4.4.2). Zeros may pad them.
func (a *Assembler) aggregate(b []byte) bool {
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

// fragment takes a piece of a NAL unit whose head is given (RFC 6184, 5.8;
// RFC 7798, 4.4.3).
func (a *Assembler) fragment(flags byte, head, body []byte) {
	const start, end = 0x80, 0x40
	if flags&start != 0 {
		a.breakOff()
		a.open = true
		a.add(head)
	} else if !a.open {
		a.damaged = true
		return
	}
	a.extend(body)
	if flags&end != 0 {
		a.open = false
	}
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

func appendWhole(dst [][]byte, b []byte) [][]byte { return append(dst, b) }
