package capture

import (
	"bytes"
	"fmt"

	"github.com/bluenviron/mediacommon/v2/pkg/codecs/h265"
)

// NAL unit types of H.265 that the way in looks at (ITU-T H.265, table 7-1).
const (
	hevcRSVVCL    = 31 // the last of the types that are slices
	hevcBLA       = 16 // the first of the intra random access points …
	hevcIRAP      = 23 // … and the last
	hevcVPS       = 32
	hevcSPS       = 33
	hevcPPS       = 34
	hevcAUD       = 35
	hevcFiller    = 38
	hevcPrefixSEI = 39
	hevcSuffixSEI = 40
)

// hevcType is the type of a NAL unit, or -1 where there is not even a header.
func hevcType(nalu []byte) int {
	if len(nalu) < 2 {
		return -1
	}
	return int(nalu[0] >> 1 & 0x3f)
}

// H265StartsUnit tells whether nalu begins a new access unit, where picture
// says that the access unit so far holds a slice (ITU-T H.265, 7.4.2.4.4).
func H265StartsUnit(nalu []byte, picture bool) bool {
	if !picture {
		return false
	}
	switch t := hevcType(nalu); {
	case t >= hevcVPS && t <= hevcAUD, t == hevcPrefixSEI, t >= 41 && t <= 44, t >= 48 && t <= 55:
		return true
	case t >= 0 && t <= hevcRSVVCL:
		return len(nalu) > 2 && nalu[2]&0x80 != 0 // first_slice_segment_in_pic_flag
	}
	return false
}

// H265IsPicture tells whether nalu is a slice of a coded picture.
func H265IsPicture(nalu []byte) bool {
	t := hevcType(nalu)
	return t >= 0 && t <= hevcRSVVCL
}

// H265HasIRAP tells whether an access unit holds an intra random access point
// (IDR, CRA or BLA), with or without its parameter sets.
func H265HasIRAP(nalus [][]byte) bool {
	for _, n := range nalus {
		if t := hevcType(n); t >= hevcBLA && t <= hevcIRAP {
			return true
		}
	}
	return false
}

// H265IsKeyframe tells whether an access unit can be decoded alone: an intra
// random access point with all three parameter sets.
func H265IsKeyframe(nalus [][]byte) bool {
	var sets byte
	for _, n := range nalus {
		if t := hevcType(n); t >= hevcVPS && t <= hevcPPS {
			sets |= 1 << (t - hevcVPS)
		}
	}
	return sets == 7 && H265HasIRAP(nalus)
}

// H265Params keeps the newest parameter sets of a stream, seen in band or out
// of band. The zero value holds none. Not safe for concurrent use.
type H265Params struct {
	vps, sps []byte
	pps      ppsSets
	track    Track // valid where sps is
	fps      float64
	reorders bool
	out      [][]byte // of Complete
}

// Observe takes the parameter sets out of an access unit, or out of an SDP,
// and tells whether one is new or changed. It copies what it keeps and does
// not retain nalus. A set that cannot be parsed is an error with
// [CodeProtocol]; what was known before is kept.
func (p *H265Params) Observe(nalus [][]byte) (changed bool, err error) {
	for _, n := range nalus {
		var c bool
		switch hevcType(n) {
		case hevcVPS:
			c, err = p.observeVPS(n)
		case hevcSPS:
			c, err = p.observeSPS(n, nalus)
		case hevcPPS:
			c, err = p.pps.observe(n, 2)
		}
		if err != nil {
			return changed, &Error{Code: CodeProtocol, Err: err}
		}
		changed = changed || c
	}
	return changed, nil
}

func (p *H265Params) observeVPS(vps []byte) (bool, error) {
	if bytes.Equal(vps, p.vps) {
		return false, nil
	}
	if len(vps) > maxParamSet {
		return false, fmt.Errorf("VPS of %d bytes", len(vps))
	}
	p.vps = bytes.Clone(vps)
	return true, nil
}

func (p *H265Params) observeSPS(sps []byte, unit [][]byte) (bool, error) {
	if bytes.Equal(sps, p.sps) {
		return false, nil
	}
	if len(sps) > maxParamSet {
		return false, fmt.Errorf("SPS of %d bytes", len(sps))
	}
	var s h265.SPS
	if err := s.Unmarshal(sps); err != nil {
		return false, fmt.Errorf("SPS: %w", err)
	}
	w, h := s.Width(), s.Height()
	if w <= 0 || h <= 0 || w > 16384 || h > 16384 {
		return false, fmt.Errorf("SPS: a picture of %d × %d", w, h)
	}
	ptl := s.ProfileTierLevel
	p.sps = bytes.Clone(sps)
	p.track = Track{
		Kind: Video, Codec: H265, ClockRate: 90000, Width: w, Height: h,
		Fmtp: fmt.Sprintf("level-id=%d;profile-id=%d;tier-flag=%d;tx-mode=SRST", ptl.GeneralLevelIdc, ptl.GeneralProfileIdc, ptl.GeneralTierFlag),
	}
	n := len(s.MaxNumReorderPics)
	p.reorders = n > 0 && s.MaxNumReorderPics[n-1] > 0
	p.fps = 0
	if v := s.VUI; v != nil && v.TimingInfo != nil && v.TimingInfo.NumUnitsInTick > 0 {
		if fps := s.FPS(); fps > 0 && fps <= 1000 {
			p.fps = fps
		}
	}
	// A PPS refers to its SPS: those of the old one go when new ones come along.
	for _, n := range unit {
		if hevcType(n) == hevcPPS {
			p.pps = nil
			break
		}
	}
	return true, nil
}

// Ready tells whether all three parameter sets are known.
func (p *H265Params) Ready() bool { return p.vps != nil && p.sps != nil && len(p.pps) > 0 }

// FPS is the frame rate that the SPS announces, 0 where it does not.
func (p *H265Params) FPS() float64 { return p.fps }

// Reorders tells whether pictures are shown in another order than they are
// decoded in, as with B-frames.
func (p *H265Params) Reorders() bool { return p.reorders }

// Track describes the stream, or reports false while the SPS is unknown.
func (p *H265Params) Track() (Track, bool) { return p.track, p.sps != nil }

// Complete makes an access unit with an intra random access point decodable
// alone: where a parameter set is missing, the known ones are put in front.
// Any other access unit comes back as it is. The result is valid until the
// next call and aliases nalus and p.
func (p *H265Params) Complete(nalus [][]byte) [][]byte {
	if !p.Ready() || !H265HasIRAP(nalus) || H265IsKeyframe(nalus) {
		return nalus
	}
	p.out = append(p.out[:0], p.vps, p.sps)
	p.out = append(p.out, p.pps...)
	for _, n := range nalus {
		if t := hevcType(n); t < hevcVPS || t > hevcAUD {
			p.out = append(p.out, n)
		}
	}
	return p.out
}

// H265 cuts the NAL units of one access unit (RFC 7798, single stream, no
// decoding order numbers) and sets Payloads and Keyframe of dst, as
// [Packetizer.H264] does.
func (p *Packetizer) H265(nalus [][]byte, dst *Frame) {
	dst.Keyframe = H265IsKeyframe(nalus)
	p.cut(&h265Payloads, nalus, dst)
}

// h265Payloads are aggregation packets and fragmentation units (RFC 7798,
// 4.4.2 and 4.4.3).
var h265Payloads = nalPayloads{
	header: 2,
	role: func(n []byte) nalRole {
		switch hevcType(n) {
		case -1, hevcAUD, hevcFiller:
			return nalDropped
		case hevcVPS, hevcSPS, hevcPPS, hevcPrefixSEI, hevcSuffixSEI:
			return nalSmall
		}
		return nalWhole
	},
	join: func(units [][]byte, header []byte) {
		forbidden, layer, temporal := byte(0), byte(0x3f), byte(7)
		for _, n := range units {
			forbidden |= n[0] & 0x80
			layer = min(layer, n[0]<<5&0x20|n[1]>>3) // the lowest of all, as the temporal id
			temporal = min(temporal, n[1]&7)
		}
		header[0], header[1] = forbidden|48<<1|layer>>5, layer<<3|temporal
	},
	split: func(n, header []byte) byte {
		header[0], header[1] = n[0]&0x81|49<<1, n[1]
		return n[0] >> 1 & 0x3f
	},
}
