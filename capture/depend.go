package capture

// h264Discardable tells whether no picture refers to an access unit: none of
// its slices is of a reference picture (ITU-T H.264, 7.4.1: nal_ref_idc 0).
func h264Discardable(nalus [][]byte) bool {
	picture := false
	for _, n := range nalus {
		if !H264IsPicture(n) {
			continue
		}
		if n[0]&0x60 != 0 {
			return false
		}
		picture = true
	}
	return picture
}

// h265Dependency reads the headers of an access unit's slices (ITU-T H.265,
// 7.3.1.2): the temporal sub-layer, and whether it is a sub-layer
// non-reference picture (table 7-1: even types below 16), to which nothing
// refers but higher sub-layers.
func h265Dependency(nalus [][]byte) (discardable bool, temporal uint8) {
	for _, n := range nalus {
		if len(n) < 2 || n[0]>>1&0x3f > 31 { // no slice
			continue
		}
		kind, id := n[0]>>1&0x3f, n[1]&7 // the slices of a picture have one type and one sub-layer (7.4.2.2)
		return kind < 16 && kind%2 == 0, max(id, 1) - 1
	}
	return false, 0
}

// vp9Discardable reads the uncompressed header (VP9 bitstream, 6.2): a shown
// frame that refreshes no slot. Only with error_resilient_mode is it certain
// that it leaves no probabilities behind either; nothing else is read.
func vp9Discardable(unit []byte) bool {
	if len(unit) < 3 || unit[0]>>6 != 2 || unit[0]>>4&3 == 3 {
		return false
	}
	const showExisting, interFrame, shown, resilient = 8, 4, 2, 1
	if unit[0]&(showExisting|interFrame|shown|resilient) != interFrame|shown|resilient {
		return false
	}
	return unit[1] == 0 // refresh_frame_flags follow at once
}

// av1Temporal reads the temporal layer of the first frame of a temporal unit
// from its OBU's extension (AV1 bitstream, 5.3.3), which is 0 where there is
// none.
func av1Temporal(obus [][]byte) uint8 {
	for _, b := range obus {
		if o, _, err := parseOBU(b); err == nil && (o.kind == obuFrameHeader || o.kind == obuFrame) {
			return o.head[1] >> 5
		}
	}
	return 0
}

// depend sets Discardable and Temporal of a frame that has its Keyframe.
func (p *Packetizer) depend(unit [][]byte, dst *Frame) {
	dst.Discardable, dst.Temporal = false, 0
	if dst.Keyframe {
		return
	}
	switch p.codec {
	case H264:
		dst.Discardable = h264Discardable(unit)
	case H265:
		dst.Discardable, dst.Temporal = h265Dependency(unit)
	case VP9:
		dst.Discardable = vp9Discardable(unit[0])
	case AV1:
		dst.Temporal = av1Temporal(unit)
	}
}
