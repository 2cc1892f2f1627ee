package receive

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpav1"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph264"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph265"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpvp8"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpvp9"
	"github.com/pion/rtp"

	"edged/capture"
)

// encoder is somebody else's packetizer.
type encoder func(unit [][]byte) ([]*rtp.Packet, error)

const packetSize = 200

func encoders(t *testing.T) map[capture.Codec]encoder {
	h264 := &rtph264.Encoder{PayloadType: 96, PayloadMaxSize: packetSize, PacketizationMode: 1}
	h265 := &rtph265.Encoder{PayloadType: 96, PayloadMaxSize: packetSize}
	vp8 := &rtpvp8.Encoder{PayloadType: 96, PayloadMaxSize: packetSize}
	vp9 := &rtpvp9.Encoder{PayloadType: 96, PayloadMaxSize: packetSize}
	av1 := &rtpav1.Encoder{PayloadType: 96, PayloadMaxSize: packetSize}
	for _, e := range []interface{ Init() error }{h264, h265, vp8, vp9, av1} {
		if err := e.Init(); err != nil {
			t.Fatal(err)
		}
	}
	return map[capture.Codec]encoder{
		capture.H264: h264.Encode, capture.H265: h265.Encode, capture.AV1: av1.Encode,
		capture.VP8: func(unit [][]byte) ([]*rtp.Packet, error) { return vp8.Encode(unit[0]) },
		capture.VP9: func(unit [][]byte) ([]*rtp.Packet, error) { return vp9.Encode(unit[0]) },
	}
}

// randomPicture is a unit without start codes, of one or several parts where
// the codec has them.
func randomPicture(r *rand.Rand, c capture.Codec) (unit [][]byte) {
	parts := 1 + r.IntN(4)
	if c == capture.VP8 || c == capture.VP9 {
		parts = 1
	}
	for i := range parts {
		n := make([]byte, 4+r.IntN(700))
		for i := range n {
			n[i] = byte(1 + r.IntN(255))
		}
		switch c {
		case capture.H264:
			n[0], n[1] = 0x41, []byte{0x90, 0x20}[min(i, 1)] // first_mb_in_slice is 0 in the first slice only
		case capture.H265:
			n[0], n[1], n[2] = 0x02, 1, []byte{0x90, 0x20}[min(i, 1)]
		case capture.VP9:
			n[0] = 0x86
		case capture.AV1:
			n[0] = []byte{0x30, 0x20}[min(i, 1)] // a frame, then tile groups
		}
		unit = append(unit, n)
	}
	return unit
}

// Whatever is lost, a unit that comes out is one that went in, in order, and
// the one after a hole says so. Packets are cut by somebody else's encoder.
func TestAssembleUnderLoss(t *testing.T) {
	for codec, encode := range encoders(t) {
		t.Run(string(codec), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			sent := map[uint32][][]byte{}
			var got []Unit
			a := collect(&got)
			a.format = payloadFormats[codec]
			lossBefore := map[uint32]bool{} // a packet was lost since the unit before
			hole := false
			for ts := uint32(1); ts <= 2000; ts++ {
				sent[ts] = randomPicture(r, codec)
				packets, err := encode(sent[ts])
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range packets {
					p.Timestamp = ts
					if r.IntN(50) == 0 {
						hole = true
						continue
					}
					before := len(got)
					if err := a.Push(p); err != nil {
						t.Fatal(err)
					}
					if len(got) > before {
						lossBefore[got[len(got)-1].RTPTime] = hole
						hole = false
					}
				}
			}
			if len(got) < 1000 || len(got) == len(sent) {
				t.Fatalf("%d of %d units", len(got), len(sent))
			}
			for _, u := range got {
				if !slices.EqualFunc(u.Parts, sent[u.RTPTime], bytes.Equal) {
					t.Errorf("unit %d differs from what was sent", u.RTPTime)
				}
				if lossBefore[u.RTPTime] && !u.Lost {
					t.Errorf("unit %d hides a loss", u.RTPTime)
				}
			}
		})
	}
}

// Payloads as the formats allow them, and as they do not.
func TestPayloadFormats(t *testing.T) {
	for name, c := range map[string]struct {
		codec capture.Codec
		in    []*rtp.Packet
		want  string
	}{
		"H.265 single": {capture.H265, []*rtp.Packet{packet(1, 9, false, 0x40, 1, 7), packet(2, 9, true, 0x26, 1, 0xaf)}, "9:400107,2601af"},
		"H.265 aggregate, padded": {capture.H265, []*rtp.Packet{
			packet(1, 9, true, 0x60, 1, 0, 3, 0x40, 1, 7, 0, 3, 0x26, 1, 0xaf, 0, 0)}, "9:400107,2601af"},
		"H.265 fragments": {capture.H265, []*rtp.Packet{
			packet(1, 9, false, 0x62, 1, 0x93, 0xaf, 1), packet(2, 9, false, 0x62, 1, 0x13, 2), packet(3, 9, true, 0x62, 1, 0x53, 3)}, "9:2601af010203"},
		"H.265 joined in the middle": {capture.H265, []*rtp.Packet{
			packet(1, 9, true, 0x62, 1, 0x53, 3), packet(2, 10, true, 0x02, 1, 0xd0)}, "!10:0201d0"},
		"H.265 PACI": {capture.H265, []*rtp.Packet{packet(1, 9, true, 0x64, 1, 0, 0, 2, 1, 0xd0)}, ""},
		"VP8 plain":  {capture.VP8, []*rtp.Packet{packet(1, 9, true, 0x10, 0, 1, 2), packet(2, 10, true, 0x10, 1, 1)}, "9:000102 10:0101"},
		"VP8 extended, two pieces": {capture.VP8, []*rtp.Packet{
			packet(1, 9, false, 0x90, 0xf0, 0x81, 2, 3, 4, 0xaa), packet(2, 9, true, 0x80, 0xf0, 0x81, 2, 3, 4, 0xbb)}, "9:aabb"},
		"VP8 partition":      {capture.VP8, []*rtp.Packet{packet(1, 9, false, 0x10, 0xaa), packet(2, 9, true, 0x11, 0xbb)}, "9:aabb"},
		"VP8 two frames":     {capture.VP8, []*rtp.Packet{packet(1, 9, false, 0x10, 0xaa), packet(2, 9, true, 0x10, 0xbb)}, ""},
		"VP8 head lost":      {capture.VP8, []*rtp.Packet{packet(1, 9, true, 0x10, 0xaa), packet(3, 10, true, 0, 0xbb), packet(4, 11, true, 0x10, 0xcc)}, "9:aa !11:cc"},
		"VP8 empty":          {capture.VP8, []*rtp.Packet{packet(1, 9, true, 0x90, 0x80, 1)}, ""},
		"VP8 descriptor cut": {capture.VP8, []*rtp.Packet{packet(1, 9, true, 0x90), packet(2, 10, true, 0x90, 0x80), packet(3, 11, true, 0x90, 0x80, 0x81, 1)}, ""},
		"VP9 flexible": {capture.VP9, []*rtp.Packet{
			packet(1, 9, false, 0xf8, 0x81, 2, 0, 3, 2, 0xaa), packet(2, 9, true, 0xb4, 0x81, 2, 0, 0xbb)}, "9:aabb"},
		"VP9 with temporal layers": {capture.VP9, []*rtp.Packet{packet(1, 9, true, 0xac, 1, 0x20, 7, 0xaa)}, "9:aa"},
		"VP9 structure":            {capture.VP9, []*rtp.Packet{packet(1, 9, true, 0x8e, 5, 0x18, 0, 160, 0, 90, 2, 0, 4, 1, 0xaa)}, "9:aa"},
		"VP9 spatial layer":        {capture.VP9, []*rtp.Packet{packet(1, 9, true, 0xac, 1, 2, 7, 0xaa)}, ""},
		"VP9 references":           {capture.VP9, []*rtp.Packet{packet(1, 9, true, 0xd8, 1, 3, 3, 3, 3, 0xaa)}, ""},
		"VP9 structure cut":        {capture.VP9, []*rtp.Packet{packet(1, 9, true, 0x8e, 5, 0x18, 0, 160), packet(2, 10, true, 0x8e, 5, 0x08, 3, 0x0c, 1)}, ""},
		"AV1 lengths":              {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x08, 1, 0x08, 2, 0x30, 0x10)}, "9:08,3010"},
		"AV1 counted":              {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x28, 1, 0x08, 0x30, 0x10)}, "9:08,3010"},
		"AV1 fragments": {capture.AV1, []*rtp.Packet{
			packet(1, 9, false, 0x50, 0x30, 0x10), packet(2, 9, false, 0xd0, 1), packet(3, 9, true, 0xa0, 1, 2, 0x20, 3)}, "9:30100102,2003"},
		"AV1 fragment without head": {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x10, 0x30), packet(2, 10, true, 0x90, 1), packet(3, 11, true, 0x10, 0x30, 2)}, "9:30 !11:3002"},
		"AV1 fragment without end":  {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x50, 0x30), packet(2, 10, true, 0x10, 0x30, 2)}, "!10:3002"},
		"AV1 length too large":      {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x00, 9, 0x30)}, ""},
		"AV1 fewer than counted":    {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x30, 1, 0x30)}, ""},
		"AV1 joined in the middle":  {capture.AV1, []*rtp.Packet{packet(1, 9, true, 0x10, 0x20, 1), packet(2, 10, true, 0x10, 0x30, 2)}, "!10:3002"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Unit
			a := collect(&got)
			a.format = payloadFormats[c.codec]
			for _, p := range c.in {
				if err := a.Push(p); err != nil {
					t.Fatal(err)
				}
			}
			if text(got) != c.want {
				t.Errorf("got %q, want %q", text(got), c.want)
			}
		})
	}
}

var videoCodecs = []capture.Codec{capture.H264, capture.H265, capture.VP8, capture.VP9, capture.AV1}

// Whatever comes, units and payloads keep their bounds.
func FuzzAssemble(f *testing.F) {
	for i := range videoCodecs {
		f.Add(i, []byte{3, 1, 9, 1, 0x67, 1, 2, 3, 2, 9, 0x80, 0x65, 0x88})
		f.Add(i, []byte{5, 1, 9, 0, 0x7c, 0x85, 0x88, 1, 2, 4, 2, 9, 0x80, 0x7c, 0x45, 1, 2})
		f.Add(i, []byte{9, 1, 9, 0x80, 0x78, 0, 2, 0x67, 1, 0, 2, 0x65, 0x88})
		f.Add(i, []byte{8, 1, 9, 0x80, 0x60, 1, 0, 3, 0x40, 1, 7, 0, 5, 2, 9, 0, 0x62, 1, 0x93, 0xaf, 1})
		f.Add(i, []byte{10, 1, 9, 0x80, 0x8e, 5, 0x18, 0, 160, 0, 90, 1, 4, 1})
		f.Add(i, []byte{6, 1, 9, 0x80, 0x90, 0xf0, 0x81, 2, 3, 4})
	}
	f.Fuzz(func(t *testing.T, kind int, b []byte) {
		var size int
		most := len(b)
		codec := videoCodecs[uint(kind)%uint(len(videoCodecs))]
		stream, err := capture.NewBitstream(codec)
		if err != nil {
			t.Fatal(err)
		}
		var frame capture.Frame
		a := &Assembler{Captured: func(*rtp.Packet) time.Time { return time.Time{} }}
		a.Begin(codec)
		a.Out = func(u Unit) error {
			if len(u.Parts) == 0 {
				t.Fatal("an empty unit")
			}
			for _, n := range u.Parts {
				if len(n) == 0 {
					t.Fatal("an empty part")
				}
				size += len(n)
			}
			if size > most {
				t.Fatalf("%d bytes out of %d", size, most)
			}
			if err := stream.Observe(u.Parts); err != nil {
				return err
			}
			if err := stream.Pack(u.Parts, &frame); err != nil {
				return err
			}
			for _, p := range frame.Payloads {
				if len(p) == 0 || len(p) > capture.MaxPayload {
					t.Fatalf("payload of %d bytes", len(p))
				}
			}
			return nil
		}
		for len(b) >= 4 { // length, sequence number, time, marker
			n := min(int(b[0]), len(b)-4)
			p := packet(uint16(b[1]), uint32(b[2]), b[3]&0x80 != 0, b[4:4+n]...)
			if a.Push(p) != nil {
				return
			}
			b = b[4+n:]
		}
	})
}
