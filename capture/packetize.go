package capture

import (
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/rtp/codecs/av1/obu"
)

// Packetizer cuts access units into RTP payloads of at most [MaxPayload]
// bytes. One belongs to one track and is not safe for concurrent use: the
// payloads of a frame are valid until the next call.
type Packetizer struct {
	codec     Codec
	payloader rtp.Payloader // H.265, VP9, AV1
	buf       []byte        // the payloads that had to be composed, of the last frame
	nalus     [][]byte      // scratch
	pictureID uint16        // VP8, 15 bits
}

// NewPacketizer makes a packetizer for a codec, or says with [CodeCodec] that
// there is none.
func NewPacketizer(c Codec) (*Packetizer, error) {
	p := &Packetizer{codec: c}
	switch c {
	case H264, VP8, Opus, PCMU, PCMA:
	case H265:
		p.payloader = &codecs.H265Payloader{}
	case VP9:
		p.payloader = &codecs.VP9Payloader{}
	case AV1:
		p.payloader = &codecs.AV1Payloader{}
	default:
		return nil, Errorf(CodeCodec, "codec %q cannot be packetized", string(c))
	}
	return p, nil
}

// H264 cuts the NAL units of one access unit (RFC 6184, packetization mode 1)
// and sets Payloads and Keyframe of dst, reusing dst.Payloads. The payloads
// alias nalus and p's memory; both must stay as they are until the sink has
// had the frame. Access unit delimiters and filler are left out. An access
// unit with nothing to send leaves Payloads empty.
func (p *Packetizer) H264(nalus [][]byte, dst *Frame) {
	dst.Payloads, p.buf = dst.Payloads[:0], p.buf[:0]
	dst.Keyframe = H264IsKeyframe(nalus)
	small := p.nalus[:0] // parameter sets and SEI that wait for the next aggregate
	size := 1            // of that aggregate
	for _, n := range nalus {
		switch naluType(n) {
		case 0, naluAUD, naluFiller:
			continue
		case naluSPS, naluPPS, naluSEI:
			if 1+2+len(n) <= MaxPayload {
				if size+2+len(n) > MaxPayload {
					p.aggregate(small, size, dst)
					small, size = small[:0], 1
				}
				small, size = append(small, n), size+2+len(n)
				continue
			}
		}
		p.aggregate(small, size, dst)
		small, size = small[:0], 1
		p.fragment(n, dst)
	}
	p.aggregate(small, size, dst)
	clear(small[:cap(small)]) // keeps no caller's memory alive
	p.nalus = small[:0]
}

// aggregate sends the units as one STAP-A (RFC 6184, 5.7.1), or one alone as
// it is.
func (p *Packetizer) aggregate(units [][]byte, size int, dst *Frame) {
	switch len(units) {
	case 0:
		return
	case 1:
		dst.Payloads = append(dst.Payloads, units[0])
		return
	}
	out := p.take(size)
	var head byte = 24
	at := 1
	for _, n := range units {
		head |= n[0] & 0x80        // F: any
		if n[0]&0x60 > head&0x60 { // NRI: the highest
			head = head&^0x60 | n[0]&0x60
		}
		out[at], out[at+1] = byte(len(n)>>8), byte(len(n))
		at += 2 + copy(out[at+2:], n)
	}
	out[0] = head
	dst.Payloads = append(dst.Payloads, out)
}

// fragment sends one NAL unit alone where it fits, else as FU-A (RFC 6184,
// 5.8) in pieces of equal size, so that one segmented write carries them.
func (p *Packetizer) fragment(n []byte, dst *Frame) {
	if len(n) <= MaxPayload {
		dst.Payloads = append(dst.Payloads, n)
		return
	}
	const start, end = 0x80, 0x40
	indicator, kind := n[0]&0xe0|28, n[0]&0x1f
	rest := n[1:]
	size := equalSize(len(rest), MaxPayload-2)
	for first := true; len(rest) > 0; first = false {
		piece := rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		out := p.take(2 + len(piece))
		out[0], out[1] = indicator, kind
		if first {
			out[1] |= start
		}
		if len(rest) == 0 {
			out[1] |= end
		}
		copy(out[2:], piece)
		dst.Payloads = append(dst.Payloads, out)
	}
}

// equalSize is the size of the pieces when n bytes are cut into as few as
// most allows, all equal but the last.
func equalSize(n, most int) int {
	pieces := (n + most - 1) / most
	return (n + pieces - 1) / pieces
}

// take reserves n bytes of the frame's buffer. Growing leaves what was taken
// before where it is.
func (p *Packetizer) take(n int) []byte {
	if cap(p.buf)-len(p.buf) < n {
		p.buf = make([]byte, 0, max(2*cap(p.buf), n, 16<<10))
	}
	at := len(p.buf)
	p.buf = p.buf[:at+n]
	return p.buf[at : at+n : at+n]
}

// Pack cuts one unit of any other codec and sets Payloads and Keyframe of
// dst, reusing dst.Payloads: a VP8 or VP9 frame, an AV1 temporal unit (OBUs
// with size fields), an H.265 or H.264 access unit as a byte stream (annex
// B), or one packet's worth of sound. The payloads alias unit and p's memory.
// A unit that cannot be parsed is an error with [CodeProtocol].
func (p *Packetizer) Pack(unit []byte, dst *Frame) error {
	dst.Payloads, dst.Keyframe = dst.Payloads[:0], false
	if len(unit) == 0 {
		return Errorf(CodeProtocol, "%s: empty unit", p.codec)
	}
	switch p.codec {
	case H264:
		nalus := SplitAnnexB(nil, unit)
		p.H264(nalus, dst)
	case VP8:
		p.vp8(unit, dst)
	case Opus, PCMU, PCMA:
		if len(unit) > MaxPayload {
			return Errorf(CodeProtocol, "%s: a packet of %d bytes", p.codec, len(unit))
		}
		dst.Payloads = append(dst.Payloads, unit)
		dst.Keyframe = true
	default:
		dst.Keyframe = isKeyframe(p.codec, unit)
		for _, out := range p.payloader.Payload(MaxPayload, unit) {
			if len(out) == 0 || len(out) > MaxPayload {
				return Errorf(CodeProtocol, "%s: a payload of %d bytes", p.codec, len(out))
			}
			dst.Payloads = append(dst.Payloads, out)
		}
	}
	if len(dst.Payloads) == 0 {
		return Errorf(CodeProtocol, "%s: nothing to send in %d bytes", p.codec, len(unit))
	}
	return nil
}

// vp8 cuts a frame (RFC 7741, 4.2) with a PictureID of 15 bits, which lets a
// forwarder leave frames out without the decoder asking for them.
func (p *Packetizer) vp8(unit []byte, dst *Frame) {
	const head = 4
	p.buf = p.buf[:0]
	dst.Keyframe = unit[0]&1 == 0 // RFC 6386, 9.1: key_frame = 0
	size := equalSize(len(unit), MaxPayload-head)
	start := byte(0x10)
	for rest := unit; len(rest) > 0; start = 0 {
		piece := rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		out := p.take(head + len(piece))
		out[0] = 0x80 | start // X, S
		out[1] = 0x80         // I
		out[2] = 0x80 | byte(p.pictureID>>8)
		out[3] = byte(p.pictureID)
		copy(out[head:], piece)
		dst.Payloads = append(dst.Payloads, out)
	}
	p.pictureID = (p.pictureID + 1) & 0x7fff
}

func isKeyframe(c Codec, unit []byte) bool {
	switch c {
	case H265:
		return h265IsKeyframe(SplitAnnexB(nil, unit))
	case VP9:
		return vp9IsKeyframe(unit[0])
	case AV1:
		return av1IsKeyframe(unit)
	}
	return false
}

// h265IsKeyframe: an IRAP picture (ITU-T H.265, table 7-1: 16..23) with VPS
// (32), SPS (33) and PPS (34).
func h265IsKeyframe(nalus [][]byte) bool {
	var irap bool
	var sets byte
	for _, n := range nalus {
		switch t := n[0] >> 1 & 0x3f; {
		case t >= 16 && t <= 23:
			irap = true
		case t >= 32 && t <= 34:
			sets |= 1 << (t - 32)
		}
	}
	return irap && sets == 7
}

// vp9IsKeyframe reads the first byte of the uncompressed header (VP9
// bitstream, 6.2): frame_marker, profile, show_existing_frame, frame_type.
func vp9IsKeyframe(b byte) bool {
	if b>>6 != 2 {
		return false
	}
	if b>>4&3 == 3 { // profile 3 has a reserved bit before the flags
		return b&0x04 == 0 && b&0x02 == 0
	}
	return b&0x08 == 0 && b&0x04 == 0
}

// av1IsKeyframe: a sequence header travels with every keyframe that a decoder
// can start from (AV1 bitstream, 7.5).
func av1IsKeyframe(unit []byte) bool {
	for len(unit) > 0 {
		h, err := obu.ParseOBUHeader(unit)
		if err != nil {
			return false
		}
		if h.Type == obu.OBUSequenceHeader {
			return true
		}
		at := h.Size()
		if !h.HasSizeField {
			return false
		}
		size, n, err := obu.ReadLeb128(unit[min(at, len(unit)):])
		if err != nil || uint64(size) > uint64(len(unit)-at-int(n)) {
			return false
		}
		unit = unit[at+int(n)+int(size):]
	}
	return false
}
