package capture

// Packetizer cuts access units into RTP payloads of at most [MaxPayload]
// bytes. One belongs to one track and is not safe for concurrent use: the
// payloads of a frame are valid until the next call.
type Packetizer struct {
	codec     Codec
	buf       []byte   // the payloads that had to be composed, of the last frame
	nalus     [][]byte // scratch
	split     [][]byte // scratch of Pack
	pictureID uint16   // VP8 and VP9, 15 bits
}

// NewPacketizer makes a packetizer for a codec, or says with [CodeCodec] that
// there is none.
func NewPacketizer(c Codec) (*Packetizer, error) {
	switch c {
	case H264, H265, VP8, VP9, AV1, Opus, PCMU, PCMA:
		return &Packetizer{codec: c}, nil
	}
	return nil, Errorf(CodeCodec, "codec %q cannot be packetized", string(c))
}

// H264 cuts the NAL units of one access unit (RFC 6184, packetization mode 1)
// and sets Payloads, Keyframe and Discardable of dst, reusing dst.Payloads. The payloads
// alias nalus and p's memory; both must stay as they are until the sink has
// had the frame. Access unit delimiters and filler are left out. An access
// unit with nothing to send leaves Payloads empty.
func (p *Packetizer) H264(nalus [][]byte, dst *Frame) {
	dst.Keyframe = H264IsKeyframe(nalus)
	p.depend(nalus, dst)
	p.cut(&h264Payloads, nalus, dst)
}

// h264Payloads are STAP-A and FU-A (RFC 6184, 5.7.1 and 5.8).
var h264Payloads = nalPayloads{
	header: 1,
	role: func(n []byte) nalRole {
		switch naluType(n) {
		case 0, naluAUD, naluFiller:
			return nalDropped
		case naluSPS, naluPPS, naluSEI:
			return nalSmall
		}
		return nalWhole
	},
	join: func(units [][]byte, header []byte) {
		header[0] = 24
		for _, n := range units {
			header[0] |= n[0] & 0x80        // F: any
			if n[0]&0x60 > header[0]&0x60 { // NRI: the highest
				header[0] = header[0]&^0x60 | n[0]&0x60
			}
		}
	},
	split: func(n, header []byte) byte {
		header[0] = n[0]&0xe0 | 28
		return n[0] & 0x1f
	},
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

// Unit cuts one access unit and sets Payloads, Keyframe, Discardable and
// Temporal of dst, reusing dst.Payloads: the NAL units of H.264 or H.265, the one frame of VP8 or VP9,
// the OBUs of an AV1 temporal unit, or one packet's worth of sound. The
// payloads alias unit and p's memory. A unit with nothing to send leaves
// Payloads empty; one that makes no sense is an error with [CodeProtocol].
func (p *Packetizer) Unit(unit [][]byte, dst *Frame) error {
	dst.Payloads, dst.Keyframe, p.buf = dst.Payloads[:0], false, p.buf[:0]
	switch p.codec {
	case H264:
		p.H264(unit, dst)
		return nil
	case H265:
		p.H265(unit, dst)
	case AV1:
		if err := p.av1(unit, dst); err != nil {
			return Errorf(CodeProtocol, "%s: %w", p.codec, err)
		}
	default:
		if len(unit) != 1 || len(unit[0]) == 0 {
			return Errorf(CodeProtocol, "%s: empty unit", p.codec)
		}
		if err := p.single(unit[0], dst); err != nil {
			return err
		}
	}
	p.depend(unit, dst)
	return nil
}

// single cuts the frame of a codec whose units are not divided.
func (p *Packetizer) single(frame []byte, dst *Frame) error {
	switch p.codec {
	case VP8:
		p.vp8(frame, dst)
	case VP9:
		p.vp9(frame, dst)
	default:
		if len(frame) > MaxPayload {
			return Errorf(CodeProtocol, "%s: a packet of %d bytes", p.codec, len(frame))
		}
		dst.Payloads = append(dst.Payloads, frame)
		dst.Keyframe = true
	}
	return nil
}

// Pack is [Packetizer.Unit] for a unit as one piece: the NAL units of H.264
// and H.265 as a byte stream (annex B), the OBUs of AV1 with their sizes. A
// unit with nothing to send is an error too.
func (p *Packetizer) Pack(unit []byte, dst *Frame) error {
	switch p.codec {
	case H264, H265:
		p.split = SplitAnnexB(p.split[:0], unit)
	case AV1:
		var err error
		if p.split, err = SplitOBUs(p.split[:0], unit); err != nil {
			return Errorf(CodeProtocol, "%s: %w", p.codec, err)
		}
	default:
		p.split = append(p.split[:0], unit)
	}
	err := p.Unit(p.split, dst)
	clear(p.split) // keeps no caller's memory alive
	if err == nil && len(dst.Payloads) == 0 {
		return Errorf(CodeProtocol, "%s: nothing to send in %d bytes", p.codec, len(unit))
	}
	return err
}
