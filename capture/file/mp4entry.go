package file

import (
	"bytes"
	"encoding/binary"

	"edged/capture"
)

// entry reads the sample entry of a video track, or names it where it cannot
// be forwarded.
func (r *mp4) entry(b box) (other string, err error) {
	var config string
	var configure func(box) error
	switch b.kind {
	case "avc1", "avc3": // ISO/IEC 14496-15, 5.4.2
		r.kind, config, configure = capture.H264, "avcC", r.avcC
	case "hvc1", "hev1": // 8.4.1
		r.kind, config, configure = capture.H265, "hvcC", r.hvcC
	case "vp08":
		r.kind = capture.VP8
	case "vp09":
		r.kind = capture.VP9
	case "av01":
		r.kind, config, configure = capture.AV1, "av1C", r.av1C
	default:
		return b.kind, nil
	}
	const visual = 78 // bytes of VisualSampleEntry before its boxes
	if len(b.body) < visual {
		return "", b.fault("too short")
	}
	if configure == nil {
		return "", nil // each keyframe says all
	}
	inner, err := box{kind: b.kind, at: b.at + visual, body: b.body[visual:]}.path(config)
	if err != nil {
		return "", err
	}
	return "", configure(inner)
}

// avcC reads the decoder configuration of H.264 (ISO/IEC 14496-15, 5.3.3.1).
func (r *mp4) avcC(b box) error {
	if len(b.body) < 6 || b.body[0] != 1 {
		return b.fault("not version 1")
	}
	r.lengths = int(b.body[4]&3) + 1
	rest := b.body[5:]
	for _, mask := range []byte{0x1f, 0xff} { // SPS, then PPS
		if len(rest) == 0 {
			return b.fault("too short")
		}
		count := int(rest[0] & mask)
		var err error
		if rest, err = r.units(b, rest[1:], count); err != nil {
			return err
		}
	}
	return r.checkSets(b)
}

// hvcC reads that of H.265 (8.3.3.1): arrays of NAL units, each of one type.
func (r *mp4) hvcC(b box) error {
	const fixed = 23 // bytes before the arrays
	if len(b.body) < fixed || b.body[0] != 1 {
		return b.fault("not version 1")
	}
	r.lengths = int(b.body[21]&3) + 1
	rest := b.body[fixed:]
	for range b.body[22] {
		if len(rest) < 3 {
			return b.fault("too short")
		}
		var err error
		if rest, err = r.units(b, rest[3:], int(binary.BigEndian.Uint16(rest[1:]))); err != nil {
			return err
		}
	}
	return r.checkSets(b)
}

// units takes NAL units with lengths of 16 bits, and gives the rest.
func (r *mp4) units(b box, rest []byte, count int) ([]byte, error) {
	for range count {
		if len(rest) < 2 || len(rest)-2 < int(binary.BigEndian.Uint16(rest)) {
			return nil, b.fault("a parameter set is cut off")
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n > 0 {
			r.sets = append(r.sets, append([]byte(nil), rest[2:2+n]...))
		}
		rest = rest[2+n:]
	}
	return rest, nil
}

// av1C reads that of AV1 (AV1 in ISO base media, 2.3.3): four bytes, then OBUs.
func (r *mp4) av1C(b box) error {
	if len(b.body) < 4 || b.body[0] != 0x81 { // marker and version 1
		return b.fault("not version 1")
	}
	var err error
	if r.sets, err = capture.SplitOBUs(nil, bytes.Clone(b.body[4:])); err != nil {
		return b.fault("%w", err)
	}
	return r.checkSets(b)
}

// checkSets finds a fault of the header where it is.
func (r *mp4) checkSets(b box) error {
	s, err := capture.NewBitstream(r.kind)
	if err == nil {
		err = s.Observe(r.sets)
	}
	if err != nil {
		return b.fault("%w", err)
	}
	return nil
}
