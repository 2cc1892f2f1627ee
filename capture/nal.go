package capture

// nalPayloads is how a codec's RTP payloads carry its NAL units: alone, several
// small ones in an aggregation packet, or one in fragments.
type nalPayloads struct {
	header int                                   // bytes of a NAL unit's header, which a payload begins with too
	role   func(nalu []byte) nalRole             // nalu may be shorter than a header
	join   func(units [][]byte, header []byte)   // writes the header of the units' aggregation packet
	split  func(nalu, header []byte) (kind byte) // writes the header of the unit's fragments, and says what the byte behind it names
}

// nalRole is what becomes of a NAL unit.
type nalRole int

const (
	nalWhole   nalRole = iota // goes alone, in fragments if it must
	nalSmall                  // parameter sets and SEI: goes with its like
	nalDropped                // is not sent
)

// cut sets the payloads of dst to the NAL units of one access unit.
func (p *Packetizer) cut(f *nalPayloads, nalus [][]byte, dst *Frame) {
	dst.Payloads, p.buf = dst.Payloads[:0], p.buf[:0]
	small := p.nalus[:0] // that wait for the next aggregate
	size := f.header     // of that aggregate
	for _, n := range nalus {
		switch f.role(n) {
		case nalDropped:
			continue
		case nalSmall:
			if f.header+2+len(n) <= MaxPayload {
				if size+2+len(n) > MaxPayload {
					p.aggregate(f, small, size, dst)
					small, size = small[:0], f.header
				}
				small, size = append(small, n), size+2+len(n)
				continue
			}
		}
		p.aggregate(f, small, size, dst)
		small, size = small[:0], f.header
		p.fragment(f, n, dst)
	}
	p.aggregate(f, small, size, dst)
	clear(small[:cap(small)]) // keeps no caller's memory alive
	p.nalus = small[:0]
}

// aggregate sends the units as one payload of size bytes, or one alone as it is.
func (p *Packetizer) aggregate(f *nalPayloads, units [][]byte, size int, dst *Frame) {
	switch len(units) {
	case 0:
		return
	case 1:
		dst.Payloads = append(dst.Payloads, units[0])
		return
	}
	out := p.take(size)
	f.join(units, out[:f.header])
	at := f.header
	for _, n := range units {
		out[at], out[at+1] = byte(len(n)>>8), byte(len(n))
		at += 2 + copy(out[at+2:], n)
	}
	dst.Payloads = append(dst.Payloads, out)
}

// fragment sends one NAL unit alone where it fits, else in fragments of equal
// size, so that one segmented write carries them.
func (p *Packetizer) fragment(f *nalPayloads, n []byte, dst *Frame) {
	if len(n) <= MaxPayload {
		dst.Payloads = append(dst.Payloads, n)
		return
	}
	const start, end = 0x80, 0x40
	rest := n[f.header:]
	size := equalSize(len(rest), MaxPayload-f.header-1)
	for first := true; len(rest) > 0; first = false {
		piece := rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		out := p.take(f.header + 1 + len(piece))
		mark := &out[f.header]
		*mark = f.split(n, out[:f.header])
		if first {
			*mark |= start
		}
		if len(rest) == 0 {
			*mark |= end
		}
		copy(out[f.header+1:], piece)
		dst.Payloads = append(dst.Payloads, out)
	}
}
