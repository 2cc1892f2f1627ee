package capture_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/pion/rtp/codecs"

	"edged/capture"
	"edged/capture/capturetest"
)

// nalu makes a NAL unit of a type and size whose bytes tell their place.
func nalu(head byte, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + i>>8 + 1)
	}
	b[0] = head
	return b
}

func packetizer(t testing.TB, c capture.Codec) *capture.Packetizer {
	t.Helper()
	p, err := capture.NewPacketizer(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// checkPayloads holds for every frame of every codec.
func checkPayloads(t testing.TB, f *capture.Frame) {
	t.Helper()
	for i, p := range f.Payloads {
		if len(p) == 0 || len(p) > capture.MaxPayload {
			t.Fatalf("payload %d of %d has %d bytes", i, len(f.Payloads), len(p))
		}
	}
}

// depacketize puts NAL units together again with pion's own reader.
func depacketize(t testing.TB, f *capture.Frame) [][]byte {
	t.Helper()
	var d codecs.H264Packet
	var stream []byte
	for _, p := range f.Payloads {
		b, err := d.Unmarshal(p)
		if err != nil {
			t.Fatal(err)
		}
		stream = append(stream, b...)
	}
	return capture.SplitAnnexB(nil, stream)
}

func TestH264Payloads(t *testing.T) {
	sps, pps, sei := nalu(0x67, 20), nalu(0x68, 6), nalu(0x06, 30)
	tests := []struct {
		name     string
		in       [][]byte
		sizes    []int
		keyframe bool
	}{
		{"small slice alone", [][]byte{nalu(0x41, 100)}, []int{100}, false},
		{"exactly one payload", [][]byte{nalu(0x41, capture.MaxPayload)}, []int{capture.MaxPayload}, false},
		// 1144 bytes after the NAL header, in two pieces.
		{"one more", [][]byte{nalu(0x41, capture.MaxPayload+1)}, []int{2 + 572, 2 + 572}, false},
		{"three pieces, the last shorter", [][]byte{nalu(0x41, 1+3000-1)}, []int{1002, 1002, 1001}, false},
		{"keyframe", [][]byte{{0x09, 0xf0}, sps, pps, sei, nalu(0x65, 1+2000)}, []int{1 + 2 + 20 + 2 + 6 + 2 + 30, 1002, 1002}, true},
		{"IDR without parameter sets", [][]byte{nalu(0x65, 50)}, []int{50}, false},
		{"one parameter set is not aggregated", [][]byte{sps, nalu(0x41, 50)}, []int{20, 50}, false},
		{"aggregate full", [][]byte{nalu(0x06, 600), nalu(0x06, 600), sps, pps}, []int{600, 1 + 2 + 600 + 2 + 20 + 2 + 6}, false},
		{"SEI too large", [][]byte{nalu(0x06, capture.MaxPayload), nalu(0x41, 9)}, []int{capture.MaxPayload, 9}, false},
		{"slices", [][]byte{nalu(0x41, 300), nalu(0x41, 400), nalu(0x41, 500)}, []int{300, 400, 500}, false},
		{"delimiter and filler only", [][]byte{{0x09, 0xf0}, nalu(0x0c, 80), {}}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f capture.Frame
			p := packetizer(t, capture.H264)
			p.H264(tt.in, &f)
			checkPayloads(t, &f)
			var sizes []int
			for _, b := range f.Payloads {
				sizes = append(sizes, len(b))
			}
			if fmt.Sprint(sizes) != fmt.Sprint(tt.sizes) {
				t.Errorf("sizes %v, want %v", sizes, tt.sizes)
			}
			if f.Keyframe != tt.keyframe {
				t.Errorf("keyframe %v", f.Keyframe)
			}
			var want [][]byte
			for _, n := range tt.in {
				if len(n) > 0 && n[0] != 0x09 && n[0] != 0x0c {
					want = append(want, n)
				}
			}
			var got [][]byte
			if len(f.Payloads) > 0 {
				got = depacketize(t, &f)
			}
			if len(got) != len(want) {
				t.Fatalf("%d units came out, %d went in", len(got), len(want))
			}
			for i := range got {
				if !bytes.Equal(got[i], bytes.TrimRight(want[i], "\x00")) {
					t.Errorf("unit %d differs", i)
				}
			}
		})
	}
}

// The aggregate's header is the OR of F and the highest NRI (RFC 6184, 5.7).
func TestAggregateHeader(t *testing.T) {
	var f capture.Frame
	packetizer(t, capture.H264).H264([][]byte{nalu(0x27, 9), nalu(0x48, 9), nalu(0x06, 9)}, &f)
	if len(f.Payloads) != 1 || f.Payloads[0][0] != 0x40|24 {
		t.Errorf("header 0x%02x, want 0x58", f.Payloads[0][0])
	}
}

func TestH264Recording(t *testing.T) {
	p := packetizer(t, capture.H264)
	var f capture.Frame
	for i, unit := range capturetest.Units(capturetest.Clip()) {
		p.H264(unit, &f)
		checkPayloads(t, &f)
		got := depacketize(t, &f)
		var want [][]byte
		for _, n := range unit {
			if n[0]&0x1f != 9 {
				want = append(want, n)
			}
		}
		if !bytes.Equal(bytes.Join(got, nil), bytes.Join(want, nil)) {
			t.Fatalf("access unit %d came out differently", i)
		}
	}
}

func TestH264Allocates(t *testing.T) {
	p := packetizer(t, capture.H264)
	units := capturetest.Units(capturetest.Clip())
	var f capture.Frame
	i := 0
	next := func() { p.H264(units[i%len(units)], &f); i++ }
	for range units {
		next()
	}
	if n := testing.AllocsPerRun(len(units), next); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestVP8(t *testing.T) {
	p := packetizer(t, capture.VP8)
	for i, unit := range [][]byte{nalu(0x10, 5000), nalu(0x11, 100)} {
		var f capture.Frame
		if err := p.Pack(unit, &f); err != nil {
			t.Fatal(err)
		}
		checkPayloads(t, &f)
		if f.Keyframe != (i == 0) {
			t.Errorf("unit %d: keyframe %v", i, f.Keyframe)
		}
		var out []byte
		for n, b := range f.Payloads {
			var d codecs.VP8Packet
			part, err := d.Unmarshal(b)
			if err != nil {
				t.Fatal(err)
			}
			if (d.S == 1) != (n == 0) || d.PictureID != uint16(i) || b[2]&0x80 == 0 {
				t.Errorf("unit %d, payload %d: S %d, PictureID %d", i, n, d.S, d.PictureID)
			}
			if n > 0 && n < len(f.Payloads)-1 && len(b) != len(f.Payloads[0]) {
				t.Errorf("payload %d: %d bytes, the first has %d", n, len(b), len(f.Payloads[0]))
			}
			out = append(out, part...)
		}
		if !bytes.Equal(out, unit) {
			t.Errorf("unit %d came out differently", i)
		}
	}
}

func TestVP8PictureIDWraps(t *testing.T) {
	p := packetizer(t, capture.VP8)
	var f capture.Frame
	var d codecs.VP8Packet
	for i := range 0x8001 {
		if err := p.Pack([]byte{1, 2, 3}, &f); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Unmarshal(f.Payloads[0]); err != nil || int(d.PictureID) != i&0x7fff {
			t.Fatalf("frame %d has PictureID %d, %v", i, d.PictureID, err)
		}
	}
}

func obu(kind byte, size int) []byte {
	b := nalu(kind<<3|2, size+3)
	b[1], b[2] = byte(size)|0x80, byte(size>>7)
	b[3] = 0x10 // of a frame: shown, a keyframe
	return b
}

func TestPack(t *testing.T) {
	start := []byte{0, 0, 0, 1}
	join := func(parts ...[]byte) (out []byte) {
		for _, p := range parts {
			out = append(append(out, start...), p...)
		}
		return out
	}
	vps, sps, pps := []byte{0x40, 1, 0x0c, 1}, []byte{0x42, 1, 1, 1}, []byte{0x44, 1, 0xc1, 0x72}
	tests := []struct {
		name     string
		codec    capture.Codec
		unit     []byte
		ok, key  bool
		payloads int
	}{
		{"H.264 byte stream", capture.H264, join(nalu(0x67, 9), nalu(0x68, 5), nalu(0x65, 3000)), true, true, 4},
		{"H.265 IDR with sets", capture.H265, join(vps, sps, pps, nalu(19<<1, 3000)), true, true, 4},
		{"H.265 IDR alone", capture.H265, join(nalu(19<<1, 100)), true, false, -1},
		{"H.265 trailing", capture.H265, join(nalu(1<<1, 3000)), true, false, 3},
		{"VP9 inter frame", capture.VP9, append([]byte{0x86, 0}, nalu(0, 2000)...), true, false, 2},
		{"AV1 keyframe", capture.AV1, append(obu(1, 10), obu(6, 2000)...), true, true, 2},
		{"AV1 without its sequence header", capture.AV1, obu(6, 2000), true, false, 2},
		{"AV1 nothing but a delimiter", capture.AV1, []byte{0x12, 0}, false, false, 0},
		{"AV1 garbage", capture.AV1, []byte{0xff, 0xff, 0xff}, false, false, 0},
		{"Opus", capture.Opus, nalu(0x78, 120), true, true, 1},
		{"Opus too large", capture.Opus, nalu(0x78, 1500), false, false, 0},
		{"nothing", capture.PCMU, nil, false, false, 0},
		{"H.265 without start code", capture.H265, []byte{1}, false, false, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var f capture.Frame
			err := packetizer(t, tt.codec).Pack(tt.unit, &f)
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if err != nil {
				if capture.CodeOf(err) != capture.CodeProtocol {
					t.Errorf("code %s", capture.CodeOf(err))
				}
				return
			}
			checkPayloads(t, &f)
			if f.Keyframe != tt.key || tt.payloads >= 0 && len(f.Payloads) != tt.payloads {
				t.Errorf("keyframe %v, %d payloads", f.Keyframe, len(f.Payloads))
			}
		})
	}
	if _, err := capture.NewPacketizer("JPEG"); capture.CodeOf(err) != capture.CodeCodec {
		t.Errorf("JPEG: %v", err)
	}
}

func FuzzPack(f *testing.F) {
	kinds := []capture.Codec{capture.H264, capture.H265, capture.VP8, capture.VP9, capture.AV1, capture.Opus}
	for i := range kinds {
		f.Add(i, []byte{0, 0, 1, 0x65, 1, 2, 3, 0, 0, 1, 0x67}, []byte{0x82, 0x49, 0x83, 0x42})
		f.Add(i, obu(1, 10), obu(6, 1400))
	}
	f.Add(0, capturetest.Clip()[:3000], []byte{})
	f.Fuzz(func(t *testing.T, kind int, first, second []byte) {
		c := kinds[uint(kind)%uint(len(kinds))]
		p := packetizer(t, c)
		var frame capture.Frame
		for _, unit := range [][]byte{first, second, first} {
			if p.Pack(unit, &frame) == nil {
				if len(frame.Payloads) == 0 {
					t.Fatal("neither payloads nor an error")
				}
				checkPayloads(t, &frame)
				if c == capture.H264 {
					for _, b := range frame.Payloads {
						_, _ = new(codecs.H264Packet).Unmarshal(b)
					}
				}
			}
		}
	})
}

func BenchmarkPacketizeH264(b *testing.B) {
	p := packetizer(b, capture.H264)
	unit := [][]byte{nalu(0x41, 10_600)} // a frame of 2.5 Mbit/s at 30 a second
	var f capture.Frame
	b.ReportAllocs()
	b.SetBytes(int64(len(unit[0])))
	for b.Loop() {
		p.H264(unit, &f)
	}
}
