package receive

// The aggregation header (RTP payload format for AV1, 4.4).
const (
	av1Continued = 0x80 // Z: the first element goes on from the packet before
	av1Continues = 0x40 // Y: the last element goes on in the next packet
	av1Sequence  = 0x08 // N: begins a coded video sequence
)

// element gives the OBU element that b begins with, the i-th of count (0: not
// said), and what follows it.
func element(b []byte, i, count int) (e, rest []byte, ok bool) {
	if i == count-1 {
		return b, nil, true // the last has no length
	}
	n := 0
	for at := 0; at < len(b) && at < 3; at++ { // leb128; three bytes are more than a packet
		n |= int(b[at]&0x7f) << (7 * at)
		if b[at]&0x80 == 0 {
			b = b[at+1:]
			if n > len(b) {
				return nil, nil, false
			}
			return b[:n], b[n:], true
		}
	}
	return nil, nil, false
}

// beginsAV1: it leads with an OBU that may be the first of a temporal unit.
func beginsAV1(b []byte) bool {
	if len(b) < 2 || b[0]&av1Continued != 0 {
		return false
	}
	if b[0]&av1Sequence != 0 {
		return true
	}
	e, _, ok := element(b[1:], 0, int(b[0]>>4&3))
	if !ok || len(e) == 0 {
		return false
	}
	switch e[0] >> 3 & 0xf {
	case 1, 2, 3, 6: // sequence header, temporal delimiter, frame header, frame
		return true
	}
	return false
}

func takeAV1(a *Assembler, b []byte) bool {
	count := int(b[0] >> 4 & 3)
	rest := b[1:]
	i := 0
	for ; len(rest) > 0; i++ {
		e, more, ok := element(rest, i, count)
		if !ok {
			a.damaged = true
			return false
		}
		rest = more
		if i == 0 && b[0]&av1Continued != 0 {
			if !a.open {
				a.damaged = true
			}
			a.extend(e)
			a.open = false
		} else {
			a.breakOff()
			if len(e) > 0 {
				a.add(e)
			}
		}
	}
	if i == 0 || count > 0 && i != count {
		a.damaged = true
		return false
	}
	a.open = b[0]&av1Continues != 0
	return true
}
