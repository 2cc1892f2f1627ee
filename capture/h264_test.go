package capture_test

import (
	"bytes"
	"testing"

	"edged/capture"
	"edged/capture/capturetest"
)

func TestSplitAnnexB(t *testing.T) {
	a, b := []byte{0x67, 1, 2, 0, 0, 3, 1, 4}, []byte{0x41, 0x9a}
	tests := []struct {
		name string
		in   []byte
		want [][]byte
	}{
		{"empty", nil, nil},
		{"no start code", []byte{1, 2, 3, 0, 1, 0, 0, 2}, nil},
		{"three-byte codes", join3(a, b), [][]byte{a, b}},
		{"four-byte codes", append([]byte{0}, join3(append(a, 0), b)...), [][]byte{a, b}},
		{"trailing zeros", append(join3(a), 0, 0, 0), [][]byte{a}},
		{"empty units", append([]byte{0, 0, 1, 0, 0, 1}, join3(b)...), [][]byte{b}},
		{"ends in a start code", append(join3(b), 0, 0, 1), [][]byte{b}},
		{"garbage in front", append([]byte{9, 1, 1}, join3(b)...), [][]byte{b}},
	}
	for _, tt := range tests {
		got := capture.SplitAnnexB(nil, tt.in)
		if len(got) != len(tt.want) {
			t.Errorf("%s: %d units, want %d", tt.name, len(got), len(tt.want))
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i], tt.want[i]) {
				t.Errorf("%s: unit %d is % x, want % x", tt.name, i, got[i], tt.want[i])
			}
		}
	}
}

func join3(units ...[]byte) (out []byte) {
	for _, u := range units {
		out = append(append(out, 0, 0, 1), u...)
	}
	return out
}

func FuzzSplitAnnexB(f *testing.F) {
	f.Add([]byte{0, 0, 1, 0x41, 0, 0, 0, 1, 0x67, 1, 0, 0, 0})
	f.Add(capturetest.Clip()[:500])
	f.Fuzz(func(t *testing.T, in []byte) {
		units := capture.SplitAnnexB(nil, in)
		for _, u := range units {
			if len(u) == 0 || u[len(u)-1] == 0 || bytes.Contains(u, []byte{0, 0, 1}) {
				t.Fatalf("unit % x", u)
			}
		}
		again := capture.SplitAnnexB(nil, join3(units...))
		if !bytes.Equal(join3(again...), join3(units...)) {
			t.Fatal("does not split into the same again")
		}
	})
}

func TestH264StartsUnit(t *testing.T) {
	for _, tt := range []struct {
		nalu    []byte
		picture bool
		want    bool
	}{
		{[]byte{0x41, 0x9a}, false, false},
		{[]byte{0x41, 0x9a}, true, true},  // first_mb_in_slice = 0
		{[]byte{0x41, 0x40}, true, false}, // a further slice
		{[]byte{0x67, 1}, true, true},
		{[]byte{0x09, 0xf0}, true, true},
		{[]byte{0x0c, 0xff}, true, false},
		{[]byte{0x41}, true, false},
		{nil, true, false},
	} {
		if got := capture.H264StartsUnit(tt.nalu, tt.picture); got != tt.want {
			t.Errorf("% x after a picture %v: %v", tt.nalu, tt.picture, got)
		}
	}
}

func TestH264Params(t *testing.T) {
	key := capturetest.Units(capturetest.Clip())[0]
	var sets [][]byte
	var idr []byte
	for _, n := range key {
		switch n[0] & 0x1f {
		case 7, 8:
			sets = append(sets, n)
		case 5:
			idr = n
		}
	}
	var p capture.H264Params
	if _, ok := p.Track(); ok || p.Ready() {
		t.Fatal("knows parameters that nobody told")
	}
	if got := p.Complete([][]byte{idr}); len(got) != 1 {
		t.Error("completed with nothing")
	}
	if changed, err := p.Observe(sets); err != nil || !changed || !p.Ready() {
		t.Fatalf("changed %v, ready %v, %v", changed, p.Ready(), err)
	}
	if changed, _ := p.Observe(key); changed {
		t.Error("the same sets again are called a change")
	}
	tr, _ := p.Track()
	if tr.Width != 320 || tr.Height != 180 || tr.ClockRate != 90000 || tr.Fmtp != "profile-level-id=42c01f;packetization-mode=1" {
		t.Errorf("track %+v", tr)
	}
	if p.FPS() != capturetest.ClipFPS {
		t.Errorf("%v frames a second", p.FPS())
	}
	whole := p.Complete([][]byte{{0x09, 0x10}, idr})
	if len(whole) != 3 || !capture.H264IsKeyframe(whole) || !bytes.Equal(whole[2], idr) {
		t.Errorf("completed to %d units", len(whole))
	}
	// A camera that forgets only the PPS.
	if whole = p.Complete([][]byte{sets[0], idr}); !capture.H264IsKeyframe(whole) || len(whole) != 3 {
		t.Errorf("completed to %d units", len(whole))
	}
	slice := [][]byte{{0x41, 0x9a}}
	if got := p.Complete(slice); &got[0] != &slice[0] {
		t.Error("a frame that is no keyframe was touched")
	}
	if n := testing.AllocsPerRun(10, func() { p.Complete(key); _, _ = p.Observe(key) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestH264ParamsRefuse(t *testing.T) {
	for name, units := range map[string][][]byte{
		"short SPS":   {{0x67, 66}},
		"garbage SPS": {bytes.Repeat([]byte{0x67}, 40)},
		"huge SPS":    {nalu(0x67, 5000)},
		"short PPS":   {{0x68}},
		"PPS id":      {{0x68, 0, 0, 0, 0}},
	} {
		var p capture.H264Params
		if _, err := p.Observe(units); capture.CodeOf(err) != capture.CodeProtocol || err == nil {
			t.Errorf("%s: %v", name, err)
		}
		if p.Ready() {
			t.Errorf("%s was kept", name)
		}
	}
}

// PPS of several ids live side by side; the same id replaces; ids do not grow
// without end.
func TestH264ParamsPPS(t *testing.T) {
	var p capture.H264Params
	key := capturetest.Units(capturetest.Clip())[0]
	if _, err := p.Observe(key); err != nil {
		t.Fatal(err)
	}
	// ue(1) = 010, ue(2) = 011
	for i, pps := range [][]byte{{0x68, 0b0101_0000, 1}, {0x68, 0b0111_0000, 1}, {0x68, 0b0101_0000, 2}} {
		if changed, err := p.Observe([][]byte{pps}); err != nil || !changed {
			t.Errorf("PPS %d: changed %v, %v", i, changed, err)
		}
	}
	if got := p.Complete([][]byte{{0x65, 0x88}}); len(got) != 1+3+1 || got[2][2] != 2 {
		t.Errorf("completed to %d units: % x", len(got), got)
	}
	var err error
	for id := range 40 {
		// ue(v) of 8 to 47 takes 7 to 11 bits: write it into 16.
		v := uint16(id + 9)
		bits := 0
		for v>>bits != 0 {
			bits++
		}
		w := v << (16 - (2*bits - 1))
		if _, err = p.Observe([][]byte{{0x68, byte(w >> 8), byte(w), 0x80}}); err != nil {
			break
		}
	}
	if capture.CodeOf(err) != capture.CodeProtocol || err == nil {
		t.Errorf("40 PPS: %v", err)
	}
}

// A new SPS takes the PPS of the old one with it.
func TestH264ParamsNewSPS(t *testing.T) {
	var p capture.H264Params
	key := capturetest.Units(capturetest.Clip())[0]
	if _, err := p.Observe(key); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Observe([][]byte{{0x68, 0b0101_0000, 1}}); err != nil {
		t.Fatal(err)
	}
	var sps []byte
	for _, n := range key {
		if n[0]&0x1f == 7 {
			sps = bytes.Clone(n)
		}
	}
	sps[3]++ // another level
	pps := []byte{0x68, 0b1000_0000, 2}
	if changed, err := p.Observe([][]byte{sps, pps}); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
	got := p.Complete([][]byte{{0x65, 0x88}})
	if len(got) != 3 || !bytes.Equal(got[0], sps) || !bytes.Equal(got[1], pps) {
		t.Errorf("completed to % x", got)
	}
	if tr, _ := p.Track(); tr.Fmtp != "profile-level-id=42c020;packetization-mode=1" {
		t.Errorf("track %+v", tr)
	}
}

func FuzzH264Params(f *testing.F) {
	for _, n := range capturetest.Units(capturetest.Clip())[0][:3] {
		f.Add(n, []byte{0x68, 0xce, 0x3c, 0x80})
	}
	f.Add([]byte{0x67, 0x42, 0xc0, 0x1f, 0xff}, []byte{0x68, 0})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var p capture.H264Params
		for _, units := range [][][]byte{{a}, {b}, {a, b}} {
			_, _ = p.Observe(units)
		}
		if tr, ok := p.Track(); ok && (tr.Width <= 0 || tr.Height <= 0) {
			t.Fatalf("%+v", tr)
		}
		p.Complete([][]byte{{0x65, 1}, a, b})
	})
}
