package capture_test

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpav1"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtph265"
	"github.com/bluenviron/gortsplib/v5/pkg/format/rtpvp9"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"

	"edged/capture"
)

// depacketizer puts the units of a codec together again, by somebody else's
// code.
type depacketizer func(t *testing.T, packets []*rtp.Packet) [][]byte

// last is the result of a decoder that wants more until the last packet.
func last(t *testing.T, packets []*rtp.Packet, decode func(*rtp.Packet) ([][]byte, error)) [][]byte {
	t.Helper()
	for i, p := range packets {
		unit, err := decode(p)
		if i == len(packets)-1 {
			if err != nil {
				t.Fatalf("the last packet: %v", err)
			}
			return unit
		}
		if unit != nil {
			t.Fatalf("packet %d of %d ends the unit", i, len(packets))
		}
	}
	return nil
}

var depacketizers = map[capture.Codec]depacketizer{
	capture.H265: func(t *testing.T, packets []*rtp.Packet) [][]byte {
		d := &rtph265.Decoder{}
		if err := d.Init(); err != nil {
			t.Fatal(err)
		}
		return last(t, packets, d.Decode)
	},
	capture.AV1: func(t *testing.T, packets []*rtp.Packet) [][]byte {
		d := &rtpav1.Decoder{}
		if err := d.Init(); err != nil {
			t.Fatal(err)
		}
		return last(t, packets, d.Decode)
	},
	capture.VP9: func(t *testing.T, packets []*rtp.Packet) [][]byte {
		d := &rtpvp9.Decoder{}
		if err := d.Init(); err != nil {
			t.Fatal(err)
		}
		return last(t, packets, func(p *rtp.Packet) ([][]byte, error) {
			frame, err := d.Decode(p)
			if frame == nil {
				return nil, err
			}
			return [][]byte{frame}, err
		})
	},
	capture.VP8: func(t *testing.T, packets []*rtp.Packet) [][]byte {
		var frame []byte
		for _, p := range packets {
			var d codecs.VP8Packet
			b, err := d.Unmarshal(p.Payload)
			if err != nil {
				t.Fatal(err)
			}
			frame = append(frame, b...)
		}
		return [][]byte{frame}
	},
}

func packetsOf(f *capture.Frame) (packets []*rtp.Packet) {
	for i, b := range f.Payloads {
		packets = append(packets, &rtp.Packet{
			Header:  rtp.Header{Version: 2, SequenceNumber: uint16(i), Timestamp: 1, Marker: i == len(f.Payloads)-1},
			Payload: b,
		})
	}
	return packets
}

// randomUnit is a unit as an encoder might make it, of any size.
func randomUnit(r *rand.Rand, c capture.Codec) (unit [][]byte) {
	size := func() int { return 3 + r.IntN(1+[]int{8, 126, 1140, 1141, 1142, 1143, 1144, 9000}[r.IntN(8)]) }
	switch c {
	case capture.H265:
		for range r.IntN(5) {
			unit = append(unit, nalu(byte(32+r.IntN(3))<<1, min(size(), 2000)))
		}
		for range 1 + r.IntN(3) {
			unit = append(unit, nalu(byte(r.IntN(22))<<1, size()))
		}
		for _, n := range unit {
			n[1] = 1
		}
	case capture.AV1:
		for range 1 + r.IntN(5) {
			unit = append(unit, nalu([]byte{1, 3, 4, 5, 6}[r.IntN(5)]<<3, size()))
		}
	case capture.VP9:
		unit = [][]byte{append([]byte{0x86}, nalu(0, size())...)}
	default:
		unit = [][]byte{nalu(1, size())}
	}
	return unit
}

// What goes in comes out, whatever the sizes.
func TestUnitsComeBack(t *testing.T) {
	for codec, depacketize := range depacketizers {
		t.Run(string(codec), func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			p := packetizer(t, codec)
			var f capture.Frame
			for range 3000 {
				unit := randomUnit(r, codec)
				if err := p.Unit(unit, &f); err != nil {
					t.Fatal(err)
				}
				checkPayloads(t, &f)
				if got := depacketize(t, packetsOf(&f)); !slices.EqualFunc(got, unit, bytes.Equal) {
					t.Fatalf("%d parts of %d differ", len(got), len(unit))
				}
			}
		})
	}
}

// The pieces of one large part are equal but for the last, so that one
// segmented send carries them.
func TestPiecesAreEqual(t *testing.T) {
	for codec, part := range map[capture.Codec][]byte{
		capture.H265: nalu(1<<1, 30_000), capture.VP8: nalu(1, 30_000), capture.AV1: nalu(6<<3, 30_000),
		capture.VP9: append([]byte{0x86}, nalu(0, 30_000)...),
	} {
		var f capture.Frame
		if err := packetizer(t, codec).Unit([][]byte{part}, &f); err != nil {
			t.Fatal(err)
		}
		for i, b := range f.Payloads[:len(f.Payloads)-1] {
			if len(b) != len(f.Payloads[0]) {
				t.Errorf("%s: payload %d has %d bytes, the first %d", codec, i, len(b), len(f.Payloads[0]))
			}
		}
		if n := len(f.Payloads); n != 27 {
			t.Errorf("%s: %d payloads", codec, n)
		}
	}
}

func TestUnitsAllocateNothing(t *testing.T) {
	for codec := range depacketizers {
		unit, p := randomUnit(rand.New(rand.NewPCG(3, 4)), codec), packetizer(t, codec)
		var f capture.Frame
		if n := testing.AllocsPerRun(100, func() { _ = p.Unit(unit, &f) }); n > 0 {
			t.Errorf("%s: %v allocations a unit", codec, n)
		}
	}
}

// The heads of packets are as the payload formats have them.
func TestPayloadHeads(t *testing.T) {
	key := recording(t, "vp9.ivf")[0]
	var f capture.Frame
	if err := packetizer(t, capture.VP9).Unit([][]byte{append(key, nalu(1, 2000)...)}, &f); err != nil {
		t.Fatal(err)
	}
	// I, B, V; PictureID 0; one layer with its size, 160 × 90
	if want := []byte{0x8a, 0x80, 0, 0x10, 0, 160, 0, 90}; !bytes.HasPrefix(f.Payloads[0], want) || f.Payloads[1][0]&^4 != 0x80 || f.Payloads[len(f.Payloads)-1][0] != 0x84 {
		t.Errorf("VP9: % x, % x", f.Payloads[0][:8], f.Payloads[1][:3])
	}
	if err := packetizer(t, capture.AV1).Unit([][]byte{nalu(1<<3, 10), {6 << 3, 0x10, 1, 2}, nalu(6<<3, 1500)}, &f); err != nil {
		t.Fatal(err)
	}
	if f.Payloads[0][0] != 0x48 || f.Payloads[0][1] != 10 || f.Payloads[1][0] != 0x90 {
		t.Errorf("AV1: % x, % x", f.Payloads[0][:2], f.Payloads[1][:1])
	}
	vps, sps, pps := []byte{0x40, 1, 9}, []byte{0x42, 1, 9, 9}, []byte{0x44, 2, 9}
	if err := packetizer(t, capture.H265).Unit([][]byte{vps, sps, pps, nalu(19<<1, 2000)}, &f); err != nil {
		t.Fatal(err)
	}
	// an aggregation packet, then a fragmentation unit that begins an IDR picture
	if !bytes.HasPrefix(f.Payloads[0], []byte{0x60, 1, 0, 3, 0x40}) || !bytes.HasPrefix(f.Payloads[1], []byte{0x62, 8, 0x93}) || !f.Keyframe {
		t.Errorf("H.265: % x, % x", f.Payloads[0], f.Payloads[1][:4])
	}
}

// recording reads the frames of one of the test films in IVF.
func recording(t *testing.T, name string) (frames [][]byte) {
	t.Helper()
	b, err := os.ReadFile("file/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	for b = b[32:]; len(b) > 0; {
		n := binary.LittleEndian.Uint32(b)
		frames = append(frames, slices.Clip(b[12:12+n]))
		b = b[12+n:]
	}
	return frames
}

// Real streams describe themselves, and their keyframes are known.
func TestBitstreamDescribes(t *testing.T) {
	for name, want := range map[string]capture.Track{
		"vp8.ivf": {Codec: capture.VP8},
		"vp9.ivf": {Codec: capture.VP9, Fmtp: "profile-id=0"},
		"av1.ivf": {Codec: capture.AV1, Fmtp: "level-idx=0;profile=0;tier=0"},
	} {
		want.Kind, want.ClockRate, want.Width, want.Height = capture.Video, 90000, 160, 90
		s := bitstream(t, want.Codec)
		if _, ok := s.Track(); ok {
			t.Errorf("%s: described before its first frame", name)
		}
		for i, frame := range recording(t, name) {
			unit := [][]byte{frame}
			if want.Codec == capture.AV1 {
				var err error
				if unit, err = capture.SplitOBUs(nil, frame); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Observe(unit); err != nil {
				t.Fatal(name, err)
			}
			var f capture.Frame
			if err := s.Pack(unit, &f); err != nil {
				t.Fatal(name, err)
			}
			if got, ok := s.Track(); got != want || !ok || f.Keyframe != (i%5 == 0) {
				t.Errorf("%s: frame %d, keyframe %v: %+v", name, i, f.Keyframe, got)
			}
		}
	}
}

func bitstream(t *testing.T, c capture.Codec) *capture.Bitstream {
	t.Helper()
	s, err := capture.NewBitstream(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A keyframe that comes without what it needs gets it.
func TestBitstreamCompletes(t *testing.T) {
	first, err := capture.SplitOBUs(nil, recording(t, "av1.ivf")[0])
	if err != nil {
		t.Fatal(err)
	}
	s := bitstream(t, capture.AV1)
	bare := slices.DeleteFunc(slices.Clone(first), func(b []byte) bool { return b[0]>>3&0xf == 1 })
	var f capture.Frame
	if err := s.Pack(bare, &f); err != nil || f.Keyframe {
		t.Errorf("AV1: a keyframe without a sequence header, %v", err)
	}
	for _, unit := range [][][]byte{first, bare} {
		if err := s.Observe(unit); err != nil {
			t.Fatal(err)
		}
		if err := s.Pack(unit, &f); err != nil || !f.Keyframe {
			t.Errorf("AV1: no keyframe, %v", err)
		}
	}
	delimiter := [][]byte{{0x12, 0}}
	if err := s.Pack(delimiter, &f); err != nil || len(f.Payloads) != 0 {
		t.Errorf("AV1: %d payloads of nothing, %v", len(f.Payloads), err)
	}
}

// What cannot be is an error of the camera.
func TestBitstreamRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		codec capture.Codec
		unit  [][]byte
	}{
		"two frames":            {capture.VP8, [][]byte{{1, 2}, {3, 4}}},
		"VP8 start code":        {capture.VP8, [][]byte{{0, 0, 0, 1, 2, 3, 4, 5, 6, 7}}},
		"VP8 no size":           {capture.VP8, [][]byte{{0, 0, 0, 0x9d, 1, 0x2a, 0, 0, 0, 0}}},
		"VP9 cut off":           {capture.VP9, [][]byte{{0x82, 0x49}}},
		"AV1 forbidden bit":     {capture.AV1, [][]byte{{0x80}}},
		"AV1 size":              {capture.AV1, [][]byte{{0x0a, 9, 0}}},
		"AV1 sequence header":   {capture.AV1, [][]byte{{0x08, 0xff}}},
		"AV1 extension cut off": {capture.AV1, [][]byte{{0x0c}}},
		"H.264 SPS":             {capture.H264, [][]byte{{0x67, 1}}},
		"H.265 SPS":             {capture.H265, [][]byte{{0x42, 1, 1}}},
		"H.265 PPS":             {capture.H265, [][]byte{{0x44, 1}}},
		"H.265 VPS too large":   {capture.H265, [][]byte{append([]byte{0x40, 1}, make([]byte, 5000)...)}},
	} {
		if err := bitstream(t, c.codec).Observe(c.unit); capture.CodeOf(err) != capture.CodeProtocol || err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := capture.NewBitstream(capture.Opus); capture.CodeOf(err) != capture.CodeCodec {
		t.Errorf("sound: %v", err)
	}
}

// Whatever a camera sends, payloads keep their bounds.
func FuzzBitstream(f *testing.F) {
	kinds := []capture.Codec{capture.H264, capture.H265, capture.VP8, capture.VP9, capture.AV1}
	for i := range kinds {
		f.Add(i, []byte{0, 0, 1, 0x40, 1, 2, 0, 0, 1, 0x42, 1, 3, 0, 0, 1, 0x44, 1, 5, 0, 0, 1, 0x26, 1, 9}, 7)
		f.Add(i, []byte{0x12, 0, 0x0a, 1, 2, 0x32, 3, 1, 2, 3}, 2)
		f.Add(i, []byte{0x82, 0x49, 0x83, 0x42, 0, 0x09, 0xf0, 0x05, 0x96}, 0)
		f.Add(i, []byte{0, 0, 0, 0x9d, 1, 0x2a, 160, 0, 90, 0, 1, 2}, 0)
	}
	f.Fuzz(func(t *testing.T, kind int, b []byte, cut int) {
		s, err := capture.NewBitstream(kinds[uint(kind)%uint(len(kinds))])
		if err != nil {
			t.Fatal(err)
		}
		cut = int(uint(cut) % uint(len(b)+1))
		var frame capture.Frame
		for _, unit := range [][][]byte{{b}, {b[:cut], b[cut:]}, capture.SplitAnnexB(nil, b), {b[cut:]}} {
			if s.Observe(unit) == nil && s.Pack(unit, &frame) == nil {
				checkPayloads(t, &frame)
			}
			if track, ok := s.Track(); ok && (track.Width <= 0 || track.Height <= 0) {
				t.Fatalf("%+v", track)
			}
		}
	})
}
