package forward

import (
	"encoding/binary"

	"github.com/pion/rtcp"
)

// Parsing RTCP without garbage: each parser is given a packet that nextRTCP has
// cut out of a compound, and where it needs room for a list, the room.

const (
	rtcpHeader   = 8  // bytes, with the sender's SSRC (RFC 3550 §6.4.1)
	feedbackHead = 12 // bytes, with the media's SSRC (RFC 4585 §6.1)
	senderInfo   = 20 // bytes (RFC 3550 §6.4.1)
	reportBlock  = 24 // bytes (likewise)
	reportsMost  = 31 // the count has five bits

	nackPairsMost = receiveMTU / 4
)

// nextRTCP cuts the first packet off a compound (RFC 3550 §6.1).
func nextRTCP(compound []byte) (p, rest []byte, ok bool) {
	if len(compound) < rtcpHeader || compound[0]>>6 != 2 {
		return nil, nil, false
	}
	size := 4 * (int(binary.BigEndian.Uint16(compound[2:])) + 1)
	if size < rtcpHeader || size > len(compound) {
		return nil, nil, false
	}
	return compound[:size], compound[size:], true
}

// unpadded is a packet without its padding (RFC 3550 §6.4.1); nil where that
// is more than the packet has.
func unpadded(p []byte) []byte {
	if p[0]&0x20 == 0 {
		return p
	}
	padding := int(p[len(p)-1])
	if padding == 0 || padding > len(p)-rtcpHeader {
		return nil
	}
	return p[:len(p)-padding]
}

// mediaSSRC is whom a feedback packet is about.
func mediaSSRC(p []byte) (uint32, bool) {
	if len(p) < feedbackHead {
		return 0, false
	}
	return binary.BigEndian.Uint32(p[8:]), true
}

// nackPairs reads a generic NACK (RFC 4585 §6.2.1) into pairs.
func nackPairs(p []byte, pairs *[nackPairsMost]rtcp.NackPair) []rtcp.NackPair {
	n := 0
	for p = p[feedbackHead:]; len(p) >= 4 && n < len(pairs); p = p[4:] {
		pairs[n] = rtcp.NackPair{PacketID: binary.BigEndian.Uint16(p), LostPackets: rtcp.PacketBitmap(binary.BigEndian.Uint16(p[2:]))}
		n++
	}
	return pairs[:n]
}

// receptionReports reads the report blocks behind head bytes of a sender's or
// receiver's report (RFC 3550 §6.4.1) into reports. A packet that lacks some of
// those that it counts has none.
func receptionReports(p []byte, head int, reports *[reportsMost]rtcp.ReceptionReport) []rtcp.ReceptionReport {
	count := int(p[0] & 0x1f)
	if len(p) < head+count*reportBlock {
		return nil
	}
	for i := range count {
		if reports[i].Unmarshal(p[head+i*reportBlock:]) != nil {
			return nil
		}
	}
	return reports[:count]
}
