package forward

import (
	"reflect"
	"slices"
	"testing"

	"github.com/pion/rtcp"
)

// marshal is a compound of packets.
func marshal(t testing.TB, packets ...rtcp.Packet) (b []byte) {
	t.Helper()
	for _, p := range packets {
		one, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, one...)
	}
	return b
}

// transportWide is what a browser tells of ten packets from base on.
func transportWide(base uint16, count uint8) *rtcp.TransportLayerCC {
	twcc := &rtcp.TransportLayerCC{
		Header:             rtcp.Header{Count: rtcp.FormatTCC, Type: rtcp.TypeTransportSpecificFeedback, Length: 7},
		BaseSequenceNumber: base, PacketStatusCount: 10, ReferenceTime: 7, FbPktCount: count,
		PacketChunks: []rtcp.PacketStatusChunk{&rtcp.RunLengthChunk{Type: rtcp.TypeTCCRunLengthChunk, PacketStatusSymbol: rtcp.TypeTCCPacketReceivedSmallDelta, RunLength: 10}},
	}
	for range 10 {
		twcc.RecvDeltas = append(twcc.RecvDeltas, &rtcp.RecvDelta{Type: rtcp.TypeTCCPacketReceivedSmallDelta, Delta: 1000})
	}
	return twcc
}

// A compound is cut into its packets as pion does it, whatever is in it that
// is of no use.
func TestCompounds(t *testing.T) {
	nack := &rtcp.TransportLayerNack{MediaSSRC: 7, Nacks: []rtcp.NackPair{{PacketID: 65535, LostPackets: 0x8001}, {PacketID: 3}}}
	rr := &rtcp.ReceiverReport{SSRC: 5, Reports: []rtcp.ReceptionReport{{SSRC: 1, FractionLost: 3, TotalLost: 0x123456, LastSequenceNumber: 9, Jitter: 8, LastSenderReport: 7, Delay: 6}, {SSRC: 2}}}
	sr := &rtcp.SenderReport{SSRC: 5, NTPTime: 1, Reports: rr.Reports[:1]}
	b := marshal(t, rr, sr, nack, &rtcp.ReceiverEstimatedMaximumBitrate{Bitrate: 1e6, SSRCs: []uint32{7}},
		rtcp.NewCNAMESourceDescription(5, "x"), &rtcp.Goodbye{Sources: []uint32{5}}, &rtcp.PictureLossIndication{MediaSSRC: 8})
	var kinds []byte
	for rest := b; ; {
		p, next, ok := nextRTCP(rest)
		if !ok {
			break
		}
		kinds, rest = append(kinds, p[1]), next
		var reports [reportsMost]rtcp.ReceptionReport
		switch p[1] {
		case 201:
			if got := receptionReports(p, rtcpHeader, &reports); !reflect.DeepEqual(got, rr.Reports) {
				t.Errorf("%+v", got)
			}
		case 200:
			if got := receptionReports(p, rtcpHeader+senderInfo, &reports); !reflect.DeepEqual(got, sr.Reports) {
				t.Errorf("%+v", got)
			}
		case 205:
			var pairs [nackPairsMost]rtcp.NackPair
			if got := nackPairs(p, &pairs); !slices.Equal(got, nack.Nacks) {
				t.Errorf("%+v", got)
			}
		}
	}
	if want := []byte{201, 200, 205, 206, 202, 203, 206}; !slices.Equal(kinds, want) {
		t.Errorf("packets %v, want %v", kinds, want)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "short": {0x80, 201, 0}, "no SSRC": {0x80, 201, 0, 0}, "longer than all": {0x80, 201, 0, 9, 0, 0, 0, 0},
		"version 1": {0x40, 201, 0, 1, 0, 0, 0, 0},
	} {
		if _, _, ok := nextRTCP(bad); ok {
			t.Errorf("%s: taken", name)
		}
	}
	padded := []byte{0xa1, 205, 0, 4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0, 0, 0, 0, 4}
	for last, want := range map[byte]int{4: 16, 12: 8, 0: 0, 13: 0, 255: 0} {
		padded[19] = last
		if got := unpadded(padded); len(got) != want {
			t.Errorf("padding of %d: %d bytes left, want %d", last, len(got), want)
		}
	}
	var reports [reportsMost]rtcp.ReceptionReport
	if got := receptionReports([]byte{0x9f, 201, 0, 1, 0, 0, 0, 0}, rtcpHeader, &reports); got != nil {
		t.Errorf("%d reports of a packet that has none", len(got))
	}
}

// Padding is part of what the estimator is given, and no entry of any list.
func TestPaddedFeedback(t *testing.T) {
	v, _ := feedbackOfASecond(t)
	twcc := transportWide(0, 0)
	twcc.RecvDeltas, twcc.PacketStatusCount = twcc.RecvDeltas[:9], 9
	twcc.PacketChunks[0].(*rtcp.RunLengthChunk).RunLength = 9
	twcc.Header.Padding = true
	b := marshal(t, twcc)
	if b[0]&0x20 == 0 || b[len(b)-1] == 0 {
		t.Fatalf("no padding: %x", b)
	}
	if v.feedback(b, testTime); !v.heard {
		t.Error("padded transport-wide feedback was not taken")
	}
	ssrc := v.lanes[0].ssrc
	nack := marshal(t, &rtcp.TransportLayerNack{MediaSSRC: ssrc, Nacks: []rtcp.NackPair{{PacketID: 1}, {PacketID: 4}}})
	nack[0] |= 0x20 // the second pair, whose last byte is zero, becomes padding of four bytes
	nack[len(nack)-1] = 4
	if v.feedback(nack, testTime); v.counts.NACKs != 1 {
		t.Errorf("%d packets asked for, want 1", v.counts.NACKs)
	}
}

// feedbackOfASecond is what a browser sends: a report, a NACK, and transport-
// wide feedback.
func feedbackOfASecond(t testing.TB) (*Viewer, []byte) {
	v, r := bareViewer(t)
	numberPackets(v, 3)
	fill(r, 0, 30, 5, testTime)
	var b batch
	v.pump(&b, testTime)
	ssrc := v.lanes[0].ssrc
	return v, marshal(t,
		&rtcp.ReceiverReport{Reports: []rtcp.ReceptionReport{{SSRC: ssrc, LastSenderReport: 1, Delay: 1}}},
		&rtcp.TransportLayerNack{MediaSSRC: ssrc, Nacks: []rtcp.NackPair{{PacketID: uint16(v.lanes[0].seq) - 9, LostPackets: 5}}},
		transportWide(0, 0))
}

func TestFeedbackAllocatesNothing(t *testing.T) {
	v, compound := feedbackOfASecond(t)
	v.feedback(compound, testTime) // what was asked for is sent again, once
	if v.counts.NACKs != 3 || v.counts.RTX == 0 || !v.heard {
		t.Fatalf("%d asked for, %d sent again, feedback %v", v.counts.NACKs, v.counts.RTX, v.heard)
	}
	if n := testing.AllocsPerRun(100, func() { v.feedback(compound, testTime) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkFeedback(b *testing.B) {
	v, compound := feedbackOfASecond(b)
	v.feedback(compound, testTime)
	b.ReportAllocs()
	for b.Loop() {
		v.feedback(compound, testTime)
	}
}
