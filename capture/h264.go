package capture

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h264"
)

// NAL unit types of H.264 that the way in looks at (ITU-T H.264, table 7-1).
const (
	naluSlice  = 1
	naluIDR    = 5
	naluSEI    = 6
	naluSPS    = 7
	naluPPS    = 8
	naluAUD    = 9
	naluFiller = 12
)

// The most parameter sets that are kept. A camera sends one SPS and one PPS,
// some send a few PPS; a stream that goes on inventing ids is hostile.
const (
	maxPPS      = 8
	maxParamSet = 4 << 10 // bytes
)

func naluType(nalu []byte) byte {
	if len(nalu) == 0 {
		return 0
	}
	return nalu[0] & 0x1f
}

// SplitAnnexB appends the NAL units of a byte stream (ITU-T H.264, annex B)
// to dst and returns it. The units alias stream. Bytes before the first start
// code, empty units and trailing zeros are left out.
func SplitAnnexB(dst [][]byte, stream []byte) [][]byte {
	start := -1
	for i := 0; ; {
		// Most bytes are not 1: let the assembly of bytes.IndexByte skip them.
		n := bytes.IndexByte(stream[i:], 1)
		if n < 0 {
			break
		}
		i += n
		if i < 2 || stream[i-1] != 0 || stream[i-2] != 0 {
			i++
			continue
		}
		if start >= 0 && start < i-2 {
			dst = appendNALU(dst, stream[start:i-2])
		}
		i++
		start = i
	}
	if start >= 0 {
		dst = appendNALU(dst, stream[start:])
	}
	return dst
}

// appendNALU cuts the trailing_zero_8bits: a NAL unit never ends in a zero.
func appendNALU(dst [][]byte, nalu []byte) [][]byte {
	for len(nalu) > 0 && nalu[len(nalu)-1] == 0 {
		nalu = nalu[:len(nalu)-1]
	}
	if len(nalu) == 0 {
		return dst
	}
	return append(dst, nalu[:len(nalu):len(nalu)])
}

// H264StartsUnit tells whether nalu begins a new access unit, where picture
// says that the access unit so far holds a slice (ITU-T H.264, 7.4.1.2.3,
// with first_mb_in_slice = 0 as the sign of a new picture).
func H264StartsUnit(nalu []byte, picture bool) bool {
	if !picture {
		return false
	}
	switch t := naluType(nalu); {
	case t >= naluSEI && t <= naluAUD, t >= 14 && t <= 18:
		return true
	case t >= naluSlice && t <= naluIDR:
		return len(nalu) > 1 && nalu[1]&0x80 != 0
	}
	return false
}

// H264IsPicture tells whether nalu is a slice of a coded picture.
func H264IsPicture(nalu []byte) bool {
	t := naluType(nalu)
	return t >= naluSlice && t <= naluIDR
}

// H264IsKeyframe tells whether an access unit can be decoded alone: an IDR
// picture with both parameter sets.
func H264IsKeyframe(nalus [][]byte) bool {
	var sps, pps, idr bool
	for _, n := range nalus {
		switch naluType(n) {
		case naluSPS:
			sps = true
		case naluPPS:
			pps = true
		case naluIDR:
			idr = true
		}
	}
	return idr && sps && pps
}

// H264HasIDR tells whether an access unit holds an IDR picture, with or
// without its parameter sets.
func H264HasIDR(nalus [][]byte) bool {
	for _, n := range nalus {
		if naluType(n) == naluIDR {
			return true
		}
	}
	return false
}

// H264Params keeps the newest parameter sets of a stream, seen in band or out
// of band. The zero value holds none. Not safe for concurrent use.
type H264Params struct {
	sps   []byte
	pps   ppsSets
	track Track // valid where sps is
	fps   float64
	out   [][]byte // of Complete
}

// Observe takes the parameter sets out of an access unit, or out of an SDP's
// sprop-parameter-sets, and tells whether the SPS or a PPS is new or changed.
// It copies what it keeps and does not retain nalus. A set that cannot be
// parsed is an error with [CodeProtocol]; what was known before is kept.
func (p *H264Params) Observe(nalus [][]byte) (changed bool, err error) {
	for _, n := range nalus {
		var c bool
		switch naluType(n) {
		case naluSPS:
			c, err = p.observeSPS(n, nalus)
		case naluPPS:
			c, err = p.pps.observe(n, 1)
		}
		if err != nil {
			return changed, &Error{Code: CodeProtocol, Err: err}
		}
		changed = changed || c
	}
	return changed, nil
}

func (p *H264Params) observeSPS(sps []byte, unit [][]byte) (bool, error) {
	if bytes.Equal(sps, p.sps) {
		return false, nil
	}
	if len(sps) < 4 || len(sps) > maxParamSet {
		return false, fmt.Errorf("SPS of %d bytes", len(sps))
	}
	var s h264.SPS
	if err := s.Unmarshal(sps); err != nil {
		return false, fmt.Errorf("SPS: %w", err)
	}
	w, h := s.Width(), s.Height()
	if w <= 0 || h <= 0 || w > 16384 || h > 16384 {
		return false, fmt.Errorf("SPS: a picture of %d × %d", w, h)
	}
	p.sps = bytes.Clone(sps)
	p.track = Track{
		Kind: Video, Codec: H264, ClockRate: 90000, Width: w, Height: h,
		Fmtp: fmt.Sprintf("profile-level-id=%02x%02x%02x;packetization-mode=1", sps[1], sps[2], sps[3]),
	}
	p.fps = 0
	if s.VUI != nil && s.VUI.TimingInfo != nil {
		if fps := s.FPS(); fps > 0 && fps <= 1000 {
			p.fps = fps
		}
	}
	// A PPS refers to its SPS: those of the old one go when new ones come along.
	for _, n := range unit {
		if naluType(n) == naluPPS {
			p.pps = nil
			break
		}
	}
	return true, nil
}

// ppsSets are the PPS of a stream, by order of arrival, one an id.
type ppsSets [][]byte

// observe takes a PPS, whose NAL unit's header has so many bytes.
func (s *ppsSets) observe(pps []byte, header int) (changed bool, err error) {
	for _, known := range *s {
		if bytes.Equal(known, pps) {
			return false, nil
		}
	}
	if len(pps) <= header || len(pps) > maxParamSet {
		return false, fmt.Errorf("PPS of %d bytes", len(pps))
	}
	id, err := ppsID(pps[header:])
	if err != nil {
		return false, err
	}
	for i, known := range *s {
		if k, _ := ppsID(known[header:]); k == id {
			(*s)[i] = bytes.Clone(pps)
			return true, nil
		}
	}
	if len(*s) == maxPPS {
		return false, fmt.Errorf("more than %d PPS", maxPPS)
	}
	*s = append(*s, bytes.Clone(pps))
	return true, nil
}

// ppsID reads pic_parameter_set_id, the leading ue(v) behind the NAL unit's
// header, 0..255: at most 8 zeros, a one and 8 bits, before which no emulation
// prevention can stand.
func ppsID(pps []byte) (int, error) {
	var v uint32
	for i := range 4 {
		v <<= 8
		if i < len(pps) {
			v |= uint32(pps[i])
		}
	}
	zeros := 0
	for zeros < 9 && v&(1<<31) == 0 {
		zeros++
		v <<= 1
	}
	if zeros > 8 {
		return 0, errors.New("PPS: id out of range")
	}
	return int(v>>(31-zeros)) - 1, nil
}

// Ready tells whether both parameter sets are known.
func (p *H264Params) Ready() bool { return p.sps != nil && len(p.pps) > 0 }

// FPS is the frame rate that the SPS announces, 0 where it does not.
func (p *H264Params) FPS() float64 { return p.fps }

// Track describes the stream, or reports false while the SPS is unknown.
func (p *H264Params) Track() (Track, bool) { return p.track, p.sps != nil }

// Complete makes an access unit with an IDR picture decodable alone: where a
// parameter set is missing, the known ones are put in front. Any other access
// unit comes back as it is. The result is valid until the next call and
// aliases nalus and p.
func (p *H264Params) Complete(nalus [][]byte) [][]byte {
	if !p.Ready() || !H264HasIDR(nalus) || H264IsKeyframe(nalus) {
		return nalus
	}
	p.out = append(p.out[:0], p.sps)
	p.out = append(p.out, p.pps...)
	for _, n := range nalus {
		if t := naluType(n); t != naluSPS && t != naluPPS && t != naluAUD {
			p.out = append(p.out, n)
		}
	}
	return p.out
}
