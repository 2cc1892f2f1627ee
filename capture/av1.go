package capture

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/av1"
)

// OBU types (AV1 bitstream, 6.2.2).
const (
	obuSequenceHeader    = 1
	obuTemporalDelimiter = 2
	obuFrameHeader       = 3
	obuFrame             = 6
	obuTileList          = 8
	obuPadding           = 15
)

// obu is an open bitstream unit (AV1 bitstream, 5.3).
type obu struct {
	kind byte
	head [2]byte // as it is sent: without a size field; then the extension, if any
	n    int     // of head: 1 or 2 bytes
	body []byte
}

// parseOBU reads the unit that b begins with and gives what follows it. One
// without a size field is as long as b.
func parseOBU(b []byte) (o obu, rest []byte, err error) {
	if len(b) == 0 || b[0]&0x80 != 0 { // obu_forbidden_bit
		return obu{}, nil, errors.New("no OBU")
	}
	o = obu{kind: b[0] >> 3 & 0xf, head: [2]byte{b[0] &^ 2}, n: 1}
	sized, at := b[0]&2 != 0, 1
	if b[0]&4 != 0 { // obu_extension_flag
		if len(b) < 2 {
			return obu{}, nil, errors.New("OBU: cut off")
		}
		o.head[1], o.n, at = b[1], 2, 2
	}
	size := len(b) - at
	if sized {
		n, used := leb128(b[at:])
		at += used
		if used == 0 || n > uint64(len(b)-at) {
			return obu{}, nil, fmt.Errorf("OBU: a size of %d in %d bytes", n, len(b)-at)
		}
		size = int(n)
	}
	o.body = b[at : at+size]
	return o, b[at+size:], nil
}

// leb128 reads a number (AV1 bitstream, 4.10.5); used is 0 where there is none.
func leb128(b []byte) (v uint64, used int) {
	for i := 0; i < len(b) && i < 8; i++ {
		v |= uint64(b[i]&0x7f) << (7 * i)
		if b[i]&0x80 == 0 {
			return v, i + 1
		}
	}
	return 0, 0
}

// size is that of the unit as it is sent.
func (o obu) size() int { return o.n + len(o.body) }

// appendFrom appends n bytes of the unit as it is sent, from a place on.
func (o obu) appendFrom(b []byte, from, n int) []byte {
	if from < o.n {
		head := o.head[from:min(o.n, from+n)]
		b = append(b, head...)
		from, n = o.n, n-len(head)
	}
	return append(b, o.body[from-o.n:from-o.n+n]...)
}

// startsKeyframe tells whether the frame (header) is one of a shown keyframe
// (AV1 bitstream, 5.9.2: show_existing_frame, frame_type).
func (o obu) startsKeyframe() bool {
	return (o.kind == obuFrame || o.kind == obuFrameHeader) && len(o.body) > 0 && o.body[0]&0xe0 == 0
}

// SplitOBUs appends the OBUs of a temporal unit with size fields (AV1
// bitstream, 5.2) to dst and returns it. The OBUs alias unit.
func SplitOBUs(dst [][]byte, unit []byte) ([][]byte, error) {
	for len(unit) > 0 {
		_, rest, err := parseOBU(unit)
		if err != nil {
			return dst, err
		}
		n := len(unit) - len(rest)
		dst = append(dst, unit[:n:n])
		unit = rest
	}
	return dst, nil
}

// av1IsKeyframe tells whether a decoder can start at a temporal unit: a
// keyframe with its sequence header (AV1 bitstream, 7.6.1).
func av1IsKeyframe(obus [][]byte) bool {
	header := false
	for _, b := range obus {
		o, _, err := parseOBU(b)
		switch {
		case err != nil:
			return false
		case o.kind == obuSequenceHeader:
			header = true
		case o.kind == obuFrame || o.kind == obuFrameHeader:
			return header && o.startsKeyframe()
		}
	}
	return false
}

// av1Params keeps the newest sequence header of a stream.
type av1Params struct {
	header []byte // an OBU without a size field
	known  Track
	out    [][]byte // of Complete
}

func (p *av1Params) Observe(obus [][]byte) (changed bool, err error) {
	for _, b := range obus {
		o, _, err := parseOBU(b)
		if err != nil {
			return changed, Errorf(CodeProtocol, "%w", err)
		}
		if o.kind != obuSequenceHeader || len(p.header) > 0 && bytes.Equal(o.body, p.header[1:]) {
			continue
		}
		if len(o.body) > maxParamSet {
			return changed, Errorf(CodeProtocol, "a sequence header of %d bytes", len(o.body))
		}
		header := append([]byte{obuSequenceHeader << 3}, o.body...)
		var s av1.SequenceHeader
		if err := s.Unmarshal(header); err != nil {
			return changed, Errorf(CodeProtocol, "sequence header: %w", err)
		}
		p.header, p.known = header, av1Track(&s)
		changed = true
	}
	return changed, nil
}

// av1Track describes a stream by its sequence header: that of its first
// operating point, which has all layers.
func av1Track(s *av1.SequenceHeader) Track {
	level, tier := uint8(0), 0
	if len(s.SeqLevelIdx) > 0 {
		level = s.SeqLevelIdx[0]
	}
	if len(s.SeqTier) > 0 && s.SeqTier[0] {
		tier = 1
	}
	return Track{
		Kind: Video, Codec: AV1, ClockRate: 90000, Width: s.Width(), Height: s.Height(),
		Fmtp: fmt.Sprintf("level-idx=%d;profile=%d;tier=%d", level, s.SeqProfile, tier),
	}
}

func (p *av1Params) Track() (Track, bool) { return p.known, p.known.Codec != "" }

// Complete puts the sequence header in front of a keyframe that has none.
func (p *av1Params) Complete(obus [][]byte) [][]byte {
	if p.header == nil {
		return obus
	}
	for _, b := range obus {
		o, _, err := parseOBU(b)
		switch {
		case err != nil, o.kind == obuSequenceHeader:
			return obus
		case o.kind == obuFrame || o.kind == obuFrameHeader:
			if !o.startsKeyframe() {
				return obus
			}
			p.out = append(append(p.out[:0], p.header), obus...)
			return p.out
		}
	}
	return obus
}

// av1 cuts a temporal unit (RTP payload format for AV1, 4.4 and 5). Every
// packet but the last is as full as it can be.
func (p *Packetizer) av1(obus [][]byte, dst *Frame) error {
	const (
		continued = 0x80 // Z: the first element goes on from the packet before
		continues = 0x40 // Y: the last element goes on in the next packet
		alone     = 0x10 // W = 1: one element, without its length
		sequence  = 0x08 // N: begins a coded video sequence
	)
	dst.Keyframe = av1IsKeyframe(obus)
	var out []byte // the packet in the making
	var layer [2]byte
	flush := func() {
		if len(out) > 1 {
			p.buf = p.buf[:len(p.buf)-(MaxPayload-len(out))] // what take reserved too much
			dst.Payloads = append(dst.Payloads, out[:len(out):len(out)])
		}
		out = nil
	}
	for i, b := range obus {
		o, _, err := parseOBU(b)
		if err != nil {
			return err
		}
		if o.kind == obuTemporalDelimiter || o.kind == obuTileList || o.kind == obuPadding {
			continue // 5: should not be sent
		}
		if len(out) > 1 && layer[1] != o.head[1] {
			flush() // 5: the layers of a packet are one
		}
		layer = o.head
		for at := 0; at < o.size(); {
			if len(out)+2 >= MaxPayload { // no room for a length and a byte
				flush()
			}
			if out == nil {
				out = p.take(MaxPayload)[:1]
				out[0] = 0
				if at > 0 {
					out[0] |= continued
				}
				if dst.Keyframe && len(dst.Payloads) == 0 {
					out[0] |= sequence
				}
			}
			left := o.size() - at
			n := min(left, MaxPayload-len(out))
			if len(out) == 1 && (n < left || i == len(obus)-1 || n == MaxPayload-1) {
				out[0] |= alone
			} else {
				n = min(n, MaxPayload-len(out)-lengthSize(n))
				out = appendLength(out, n)
			}
			out = o.appendFrom(out, at, n)
			at += n
			if at < o.size() {
				out[0] |= continues
				flush()
			} else if out[0]&alone != 0 {
				flush()
			}
		}
	}
	flush()
	return nil
}

// lengthSize is how many bytes appendLength takes for the length of an
// element of a packet.
func lengthSize(n int) int {
	if n < 1<<7 {
		return 1
	}
	return 2
}

// appendLength appends n, less than 1 << 14, as leb128.
func appendLength(b []byte, n int) []byte {
	if n < 1<<7 {
		return append(b, byte(n))
	}
	return append(b, byte(n)|0x80, byte(n>>7))
}
