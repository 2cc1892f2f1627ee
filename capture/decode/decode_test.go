package decode

import (
	"encoding/binary"
	"image"
	"os"
	"strings"
	"testing"

	"edged/capture"
	"edged/capture/capturetest"
)

// keyframe is the first frame of the clip, as it would be forwarded.
func keyframe(t testing.TB) [][]byte {
	t.Helper()
	p, err := capturetest.NewPlayer(nil, 30)
	if err != nil {
		t.Fatal(err)
	}
	f := p.Next()
	if !f.Keyframe {
		t.Fatal("the clip does not begin with a keyframe")
	}
	return f.Payloads
}

func needH264(t testing.TB) {
	t.Helper()
	if h264Name == "" {
		if _, err := Keyframe(capture.H264, keyframe(t)); capture.CodeOf(err) != capture.CodeCodec {
			t.Fatalf("a build without decoder says %v", err)
		}
		t.Skip("this build has no decoder, and says so")
	}
}

func TestH264(t *testing.T) {
	needH264(t)
	img, err := Keyframe(capture.H264, keyframe(t))
	if err != nil {
		t.Fatal(err)
	}
	if img.Rect != image.Rect(0, 0, 320, 180) || img.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		t.Errorf("a picture of %v, %v", img.Rect, img.SubsampleRatio)
	}
	seen := map[byte]bool{}
	for _, y := range img.Y {
		seen[y] = true
	}
	if len(seen) < 50 {
		t.Errorf("%d shades", len(seen))
	}
}

// Only parameter sets and IDR slices reach the decoder, whatever else a
// camera puts beside them.
func TestBareKeyframe(t *testing.T) {
	unit := capturetest.Units(capturetest.Clip())[0]
	unit = append([][]byte{{9, 0xf0}, {14, 1, 2, 3}, {15, 0x53, 0, 30}, {6, 5, 0}}, unit...)
	unit = append(unit, []byte{20, 1, 2, 3}, []byte{1, 2, 3})
	bare, err := bareKeyframe(unit)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range capture.SplitAnnexB(nil, bare) {
		if k := n[0] & 0x1f; k != 5 && k != 7 && k != 8 {
			t.Errorf("NAL unit type %d", k)
		}
	}
}

func TestRefuses(t *testing.T) {
	whole := keyframe(t)
	for name, tt := range map[string]struct {
		codec    capture.Codec
		payloads [][]byte
		code     capture.Code
		words    string
	}{
		"H.265":        {capture.H265, whole, capture.CodeCodec, "no decoder for H265"},
		"AV1":          {capture.AV1, whole, capture.CodeCodec, "no decoder for AV1"},
		"nothing":      {capture.H264, nil, capture.CodeProtocol, "no keyframe"},
		"no IDR":       {capture.H264, whole[:1], capture.CodeProtocol, ""},
		"too short":    {capture.H264, [][]byte{{}}, capture.CodeProtocol, ""},
		"VP8, nothing": {capture.VP8, nil, capture.CodeProtocol, ""},
		"VP8, garbage": {capture.VP8, [][]byte{{0x10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, capture.CodeProtocol, ""},
		// A keyframe of VP8 that says 16383 × 16383 (RFC 6386 §9.1).
		"VP8, huge": {capture.VP8, [][]byte{{0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 0xff, 0x3f, 0xff, 0x3f, 0, 0}}, capture.CodeProtocol, "at most 4096"},
	} {
		if _, err := Keyframe(tt.codec, tt.payloads); capture.CodeOf(err) != tt.code || err == nil || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A recording of VP8, cut as it is forwarded.
func TestVP8(t *testing.T) {
	ivf, err := os.ReadFile("../file/testdata/vp8.ivf")
	if err != nil {
		t.Fatal(err)
	}
	const header, frameHeader = 32, 12
	size := int(binary.LittleEndian.Uint32(ivf[header:]))
	pack, err := capture.NewPacketizer(capture.VP8)
	if err != nil {
		t.Fatal(err)
	}
	var f capture.Frame
	if err := pack.Unit([][]byte{ivf[header+frameHeader:][:size]}, &f); err != nil || !f.Keyframe {
		t.Fatalf("%v, keyframe %v", err, f.Keyframe)
	}
	img, err := Keyframe(capture.VP8, f.Payloads)
	if err != nil {
		t.Fatal(err)
	}
	want := image.Pt(int(binary.LittleEndian.Uint16(ivf[12:])), int(binary.LittleEndian.Uint16(ivf[14:])))
	if img.Rect.Size() != want {
		t.Errorf("a picture of %v, want %v", img.Rect, want)
	}
}

// Damage is an error or a picture with damage in it, never more.
func TestDamaged(t *testing.T) {
	needH264(t)
	for at := 40; at < 4000; at += 97 {
		payloads := keyframe(t)
		i := at % len(payloads)
		p := append([]byte(nil), payloads[i]...)
		p[at%len(p)] ^= 0x5a
		damaged := append([][]byte(nil), payloads...)
		damaged[i] = p
		if img, err := Keyframe(capture.H264, damaged); err == nil && (img.Rect.Dx() > MaxWidth || img.Rect.Dy() > MaxHeight) {
			t.Errorf("byte %d: %v", at, img.Rect)
		}
	}
}

func FuzzKeyframe(f *testing.F) {
	var whole []byte
	for _, p := range keyframe(f) {
		whole = append(append(whole, byte(len(p)>>8), byte(len(p))), p...)
	}
	f.Add(true, whole)
	f.Add(false, []byte{0, 13, 0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a, 16, 0, 16, 0, 0, 0})
	f.Fuzz(func(t *testing.T, isH264 bool, b []byte) {
		codec := capture.VP8
		if isH264 {
			codec = capture.H264
		}
		var payloads [][]byte
		for len(b) > 2 {
			n := min(int(b[0])<<8|int(b[1]), len(b)-2)
			payloads, b = append(payloads, b[2:2+n]), b[2+n:]
		}
		img, err := Keyframe(codec, payloads)
		if (err == nil) == (img == nil) {
			t.Fatalf("%v, %v", img, err)
		}
	})
}

func BenchmarkH264(b *testing.B) {
	needH264(b)
	k := keyframe(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Keyframe(capture.H264, k); err != nil {
			b.Fatal(err)
		}
	}
}
