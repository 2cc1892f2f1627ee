package capture

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/vp9"
)

// vp8IsKeyframe reads the frame tag (RFC 6386, 9.1): key_frame = 0.
func vp8IsKeyframe(frame []byte) bool { return frame[0]&1 == 0 }

// vp9IsKeyframe reads the first byte of the uncompressed header (VP9
// bitstream, 6.2): frame_marker, profile, show_existing_frame, frame_type.
func vp9IsKeyframe(frame []byte) bool {
	b := frame[0]
	if b>>6 != 2 {
		return false
	}
	if b>>4&3 == 3 { // profile 3 has a reserved bit before the flags
		return b&0x04 == 0 && b&0x02 == 0
	}
	return b&0x08 == 0 && b&0x04 == 0
}

// vpParams knows a VP8 or VP9 stream by its newest keyframe.
type vpParams struct {
	codec Codec
	known Track
}

func (p *vpParams) Observe(unit [][]byte) (changed bool, err error) {
	if len(unit) != 1 || len(unit[0]) == 0 {
		return false, Errorf(CodeProtocol, "%s: %d frames at one time", p.codec, len(unit))
	}
	t := Track{Kind: Video, Codec: p.codec, ClockRate: 90000}
	switch frame := unit[0]; {
	case p.codec == VP8 && vp8IsKeyframe(frame):
		t.Width, t.Height, err = vp8Size(frame)
	case p.codec == VP9 && vp9IsKeyframe(frame):
		var profile uint8
		t.Width, t.Height, profile, err = vp9Size(frame)
		t.Fmtp = fmt.Sprintf("profile-id=%d", profile)
	default:
		return false, nil
	}
	if err != nil {
		return false, Errorf(CodeProtocol, "%s: keyframe: %w", p.codec, err)
	}
	changed = t != p.known
	p.known = t
	return changed, nil
}

func (p *vpParams) Track() (Track, bool) { return p.known, p.known.Codec != "" }

func (p *vpParams) Complete(unit [][]byte) [][]byte { return unit }

// vp8Size reads the header of a keyframe (RFC 6386, 9.1).
func vp8Size(frame []byte) (width, height int, err error) {
	if len(frame) < 10 || frame[3] != 0x9d || frame[4] != 0x01 || frame[5] != 0x2a {
		return 0, 0, errors.New("no start code")
	}
	le := binary.LittleEndian
	width, height = int(le.Uint16(frame[6:])&0x3fff), int(le.Uint16(frame[8:])&0x3fff) // the rest is for scaling
	if width == 0 || height == 0 {
		return 0, 0, fmt.Errorf("a picture of %d × %d", width, height)
	}
	return width, height, nil
}

// vp9Size reads the uncompressed header of a keyframe (VP9 bitstream, 6.2).
func vp9Size(frame []byte) (width, height int, profile uint8, err error) {
	var h vp9.Header
	if err := h.Unmarshal(frame); err != nil {
		return 0, 0, 0, err
	}
	return h.Width(), h.Height(), h.Profile, nil
}

// nextPictureID gives a PictureID of 15 bits, which lets a forwarder leave
// frames out without the decoder asking for them.
func (p *Packetizer) nextPictureID() (high, low byte) {
	id := p.pictureID
	p.pictureID = (id + 1) & 0x7fff
	return 0x80 | byte(id>>8), byte(id)
}

// vp8 cuts a frame (RFC 7741, 4.2).
func (p *Packetizer) vp8(frame []byte, dst *Frame) {
	const head = 4
	dst.Keyframe = vp8IsKeyframe(frame)
	high, low := p.nextPictureID()
	size := equalSize(len(frame), MaxPayload-head)
	start := byte(0x10)
	for rest := frame; len(rest) > 0; start = 0 {
		piece := rest[:min(size, len(rest))]
		rest = rest[len(piece):]
		out := p.take(head + len(piece))
		out[0] = 0x80 | start // X, S
		out[1] = 0x80         // I
		out[2], out[3] = high, low
		copy(out[head:], piece)
		dst.Payloads = append(dst.Payloads, out)
	}
}

// vp9 cuts a frame (RFC 9628, 4.2) of a stream without layers. A keyframe
// begins with the scalability structure, which tells its size.
func (p *Packetizer) vp9(frame []byte, dst *Frame) {
	const (
		head      = 3
		structure = 5
	)
	dst.Keyframe = vp9IsKeyframe(frame)
	high, low := p.nextPictureID()
	flags := byte(0x80 | 0x40 | 0x08) // I, P (refers to other frames), B (begins a frame)
	extra, width, height := 0, 0, 0
	if dst.Keyframe {
		flags &^= 0x40
		var err error
		if width, height, _, err = vp9Size(frame); err == nil {
			flags |= 0x02 // V
			extra = structure
		}
	}
	size := equalSize(extra+len(frame), MaxPayload-head)
	for rest := frame; len(rest) > 0; flags, extra = flags&^0x0a, 0 {
		piece := rest[:min(size-extra, len(rest))]
		rest = rest[len(piece):]
		out := p.take(head + extra + len(piece))
		out[0], out[1], out[2] = flags, high, low
		if len(rest) == 0 {
			out[0] |= 0x04 // E
		}
		if extra > 0 {
			out[3] = 0x10 // N_S = 0: one layer; Y: its size follows; no G
			binary.BigEndian.PutUint16(out[4:], uint16(width))
			binary.BigEndian.PutUint16(out[6:], uint16(height))
		}
		copy(out[head+extra:], piece)
		dst.Payloads = append(dst.Payloads, out)
	}
}
