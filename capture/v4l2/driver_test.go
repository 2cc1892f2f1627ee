package v4l2

import (
	"bytes"
	"errors"
	"image"
	"image/jpeg"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/capture/encode"
)

// jpegOf is a grey picture as an MJPEG camera sends it.
func jpegOf(t testing.TB, width, height int) []byte {
	t.Helper()
	img := image.NewYCbCr(image.Rect(0, 0, width, height), image.YCbCrSubsampleRatio422)
	for i := range img.Y {
		img.Y[i] = 90
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, img, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// What drivers do that the guest's cannot be made to do: none of it ends in
// anything but pictures left out and counted, or an error that says why.
func TestBadDrivers(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	good := fakeFrame{}
	gone := fakeFrame{err: unix.ENODEV}
	at := func(sequence uint32) fakeFrame { return fakeFrame{sequence: sequence} }
	for _, tt := range []struct {
		name    string
		node    *fakeNode
		want    capture.Code
		frames  int
		lost    uint64
		damaged uint64
	}{
		{"vanishes in a request for the format", &fakeNode{fail: map[uintptr]error{vidiocSFmt: unix.ENODEV}}, capture.CodeUnplugged, 0, 0, 0},
		{"vanishes while it maps", &fakeNode{fail: map[uintptr]error{vidiocQueryBuf: unix.ENODEV}}, capture.CodeUnplugged, 0, 0, 0},
		{"vanishes as it starts", &fakeNode{fail: map[uintptr]error{vidiocStreamOn: unix.ENODEV}}, capture.CodeUnplugged, 0, 0, 0},
		{"is busy", &fakeNode{fail: map[uintptr]error{vidiocReqBufs: unix.EBUSY}}, capture.CodeBusy, 0, 0, 0},
		{"gives one buffer", &fakeNode{buffers: 1}, capture.CodeProtocol, 0, 0, 0},
		{"gives a thousand buffers", &fakeNode{buffers: 1000}, capture.CodeProtocol, 0, 0, 0},
		{"vanishes while it streams", &fakeNode{frames: []fakeFrame{good, good, gone}}, capture.CodeUnplugged, 2, 0, 0},
		{"takes no buffer back", &fakeNode{frames: []fakeFrame{good, good}, fail: map[uintptr]error{}}, capture.CodeUnplugged, 1, 0, 0},
		{"has errors on the wire", &fakeNode{frames: []fakeFrame{good, {flags: flagError}, good, gone}}, capture.CodeUnplugged, 2, 0, 1},
		{"has nothing but errors", &fakeNode{frames: []fakeFrame{good, {flags: flagError}}}, capture.CodeProtocol, 1, 0, maxDamaged},
		{"delivers half a picture", &fakeNode{frames: []fakeFrame{{used: 64 * 48}, good, gone}}, capture.CodeUnplugged, 1, 0, 1},
		{"delivers more than there is", &fakeNode{frames: []fakeFrame{{used: 1 << 20}, good, gone}}, capture.CodeUnplugged, 1, 0, 1},
		{"delivers a buffer that there is not", &fakeNode{frames: []fakeFrame{good, {index: 7}}}, capture.CodeProtocol, 1, 0, 0},
		{"leaves pictures out", &fakeNode{frames: []fakeFrame{at(4), at(5), at(9), gone}}, capture.CodeUnplugged, 3, 3, 0},
		{"counts over the end", &fakeNode{frames: []fakeFrame{at(0xffffffff), at(1), gone}}, capture.CodeUnplugged, 2, 1, 0},
		{"counts anew", &fakeNode{frames: []fakeFrame{at(4), at(1 << 30), gone}}, capture.CodeUnplugged, 2, 0, 0},
		{"does not count", &fakeNode{frames: []fakeFrame{at(0), at(0), at(0), gone}}, capture.CodeUnplugged, 3, 0, 0},
		{"counts backwards", &fakeNode{frames: []fakeFrame{at(900), at(3), at(4), gone}}, capture.CodeUnplugged, 3, 0, 0},
		{"lies about its times", &fakeNode{frames: []fakeFrame{{stamp: time.Hour}, {stamp: time.Nanosecond}, {stamp: -time.Hour}, gone}}, capture.CodeUnplugged, 3, 0, 0},
		{"lies about its rate", &fakeNode{interval: fract{1, 0xffffffff}, frames: []fakeFrame{good, gone}}, capture.CodeUnplugged, 1, 0, 0},
		{"says no rate", &fakeNode{interval: fract{7, 0}, frames: []fakeFrame{good, gone}}, capture.CodeUnplugged, 1, 0, 0},
		{"has a signal that changes", &fakeNode{frames: []fakeFrame{good, {event: true}, good}}, capture.CodeProtocol, 1, 0, 0},
		{"delivers what was not asked for", &fakeNode{formatted: func(f *pixFormat) { f.fourcc = fourcc("Z16 ") }}, capture.CodeCodec, 0, 0, 0},
		{"delivers no size", &fakeNode{formatted: func(f *pixFormat) { f.width = 0 }}, capture.CodeProtocol, 0, 0, 0},
		{"has lines without end", &fakeNode{line: 1 << 31}, capture.CodeProtocol, 0, 0, 0},
		{"has lines longer than its memory", &fakeNode{line: 4096, frames: []fakeFrame{good}}, capture.CodeProtocol, 0, 0, maxDamaged},
		{"MJPEG", &fakeNode{fourcc: "MJPG", frames: []fakeFrame{{data: jpegOf(t, 64, 48)}, gone}}, capture.CodeUnplugged, 1, 0, 0},
		{"MJPEG, torn", &fakeNode{fourcc: "MJPG", frames: []fakeFrame{{data: jpegOf(t, 64, 48)[:300]}, {data: jpegOf(t, 64, 48)}, gone}}, capture.CodeUnplugged, 1, 0, 1},
		{"MJPEG of another size", &fakeNode{fourcc: "MJPG", frames: []fakeFrame{{data: jpegOf(t, 32, 32)}}}, capture.CodeProtocol, 0, 0, maxDamaged},
		{"MJPEG that promises the world", &fakeNode{fourcc: "MJPG", size: 1 << 20, frames: []fakeFrame{{data: jpegOf(t, 4096, 4096)}}}, capture.CodeProtocol, 0, 0, maxDamaged},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newFake("YUYV", tt.node.frames...)
			n.fail, n.formatted, n.line, n.size = tt.node.fail, tt.node.formatted, tt.node.line, tt.node.size
			if tt.node.fourcc != "" {
				n.fourcc = tt.node.fourcc
			}
			if tt.node.buffers > 0 {
				n.buffers = tt.node.buffers
			}
			if tt.node.interval.numerator > 0 {
				n.interval = tt.node.interval
			}
			s, out := newSource(capture.VideoConfig{}), &sink{}
			if tt.name == "takes no buffer back" {
				out.enough, out.stop = 1, func() { n.fail[vidiocQBuf] = unix.EIO }
			}
			err := runFake(s, n, out)
			if err == nil || capture.CodeOf(err) != tt.want {
				t.Errorf("%s: %v, want %s", capture.CodeOf(err), err, tt.want)
			}
			in := s.Input()
			if len(out.frames) != tt.frames || in.Lost != tt.lost || in.Damaged != tt.damaged {
				t.Errorf("%d frames, %d lost, %d damaged; want %d, %d, %d", len(out.frames), in.Lost, in.Damaged, tt.frames, tt.lost, tt.damaged)
			}
			for i := 1; i < len(out.frames); i++ {
				if int32(out.frames[i].RTPTime-out.frames[i-1].RTPTime) <= 0 || !out.frames[i].Captured.After(out.frames[i-1].Captured) {
					t.Errorf("the time of frame %d is not after that of the one before", i)
				}
			}
			if n.mapped != 0 {
				t.Errorf("%d pieces of memory are still mapped", n.mapped)
			}
		})
	}
}

// streaming starts a stream of a driver, which ends with the test.
func streaming(t testing.TB, n *fakeNode) *stream {
	t.Helper()
	m := mode{format: formatOf(fourcc(n.fourcc)), width: int(n.width), height: int(n.height), fps: 30}
	in, err := startStream(n, typeCapture, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.release(); err != nil || n.mapped != 0 {
			t.Errorf("%d pieces of memory are still mapped, %v", n.mapped, err)
		}
	})
	return in
}

// A buffer is the driver's again only when its picture has been read: what it
// writes then does not tear the picture.
func TestNoTearing(t *testing.T) {
	n := newFake("YUYV", fakeFrame{data: bytes.Repeat([]byte{200}, 64*48*2)})
	in := streaming(t, n)
	img, _, err := in.Read()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(n.queued, []bool{true, true, true, true}) {
		t.Errorf("queued %v", n.queued)
	}
	for _, m := range n.memory {
		clear(m)
	}
	for i, y := range img.(*Frame).Y {
		if y != 200 {
			t.Fatalf("sample %d is %d: the picture is the driver's memory", i, y)
		}
	}
}

func TestReadAllocates(t *testing.T) {
	for _, f := range []string{"YU12", "NV12", "YUYV", "H264", "MJPG"} {
		n := newFake(f, fakeFrame{})
		if f == "MJPG" {
			if encode.Name == "" {
				continue // without C, the decoder is the standard library's
			}
			n.frames[0].data = jpegOf(t, 64, 48)
		}
		in := streaming(t, n)
		if a := testing.AllocsPerRun(50, func() {
			if _, _, err := in.Read(); err != nil {
				t.Fatal(err)
			}
		}); a != 0 {
			t.Errorf("%s: %v allocations a picture", f, a)
		}
	}
}

// units are the access units of a recording, each as a byte stream.
func units(stream []byte) [][]byte {
	var out [][]byte
	for _, nalus := range capturetest.Units(stream) {
		var unit []byte
		for _, n := range nalus {
			unit = append(append(unit, 0, 0, 0, 1), n...)
		}
		out = append(out, unit)
	}
	return out
}

func TestPassThrough(t *testing.T) {
	recorded := units(capturetest.Clip())
	var frames []fakeFrame
	for i, u := range recorded {
		frames = append(frames, fakeFrame{data: u, sequence: uint32(i)})
	}
	frames[5].flags = flagError          // one damaged,
	frames = slices.Delete(frames, 8, 9) // one missing,
	frames[10].data = []byte("no NAL units at all")
	n := newFake("H264", append(frames[:20:20], fakeFrame{err: unix.ENODEV})...)
	n.size = 1 << 20
	n.controls[forceKeyframeControl], n.controls[repeatHeadersControl] = 0, 0
	s := newSource(capture.VideoConfig{Layers: 2}) // of which there is one
	s.Keyframe(0)
	out := &layerSink{}
	if err := runFake(s, n, out); capture.CodeOf(err) != capture.CodeUnplugged {
		t.Fatal(err)
	}
	if !slices.Equal(out.failed, []int{1}) {
		t.Errorf("layers %v failed", out.failed)
	}
	if len(out.tracks) != 1 || out.tracks[0].Codec != capture.H264 || out.tracks[0].Width == 0 {
		t.Errorf("tracks %+v", out.tracks)
	}
	var lost []int
	for i, f := range out.frames {
		if f.Lost {
			lost = append(lost, i)
		}
	}
	if len(out.frames) != 18 || !out.frames[0].Keyframe || !slices.Equal(lost, []int{5, 7, 9}) {
		t.Errorf("%d frames, lost before %v", len(out.frames), lost)
	}
	if in := s.Input(); in.Damaged != 2 || in.Lost != 1 || s.Encoder() != "camera" {
		t.Errorf("%+v, %s", in, s.Encoder())
	}
	if n.calls[vidiocSCtrl] != 2 { // headers, keyframe; it has no bitrate
		t.Errorf("%d controls set", n.calls[vidiocSCtrl])
	}
}

// blind takes frames and looks at none.
type blind struct{ frames int }

func (b *blind) Describe([]capture.Track) {}
func (b *blind) Frame(*capture.Frame)     { b.frames++ }

func TestPassThroughAllocates(t *testing.T) {
	film, err := capture.NewBitstream(capture.H264)
	if err != nil {
		t.Fatal(err)
	}
	out := &blind{}
	way := &through{film: film, sink: out}
	recorded := units(capturetest.Clip())
	f := &Frame{Captured: time.Now()}
	i := 0
	next := func() {
		f.Unit, f.Captured = append(f.Unit[:0], recorded[i%10]...), f.Captured.Add(time.Second/30)
		i++
		if i%10 == 0 {
			i = 1 // the keyframe once
		}
		if err := way.deliver(f); err != nil {
			t.Fatal(err)
		}
	}
	for range 30 {
		next()
	}
	if n := testing.AllocsPerRun(50, next); n != 0 {
		t.Errorf("%v allocations a picture", n)
	}
	if out.frames < 80 {
		t.Errorf("%d frames", out.frames)
	}
}

func TestPassThroughH265(t *testing.T) {
	stream, err := os.ReadFile("../file/testdata/clip.h265")
	if err != nil {
		t.Fatal(err)
	}
	n := newFake("HEVC")
	n.size = 1 << 20
	var unit []byte
	picture := false
	for _, nalu := range capture.SplitAnnexB(nil, stream) {
		if capture.H265StartsUnit(nalu, picture) {
			n.frames, unit, picture = append(n.frames, fakeFrame{data: unit}), nil, false
		}
		unit = append(append(unit, 0, 0, 0, 1), nalu...)
		picture = picture || capture.H265IsPicture(nalu)
	}
	pictures := len(n.frames) + 1
	n.frames = append(n.frames, fakeFrame{data: unit}, fakeFrame{err: unix.ENODEV})
	s, out := newSource(capture.VideoConfig{}), &sink{}
	if err := runFake(s, n, out); capture.CodeOf(err) != capture.CodeUnplugged {
		t.Fatal(err)
	}
	if len(out.tracks) != 1 || out.tracks[0].Codec != capture.H265 || len(out.frames) != pictures || !out.frames[0].Keyframe {
		t.Errorf("%d frames of %d, %+v", len(out.frames), pictures, out.tracks)
	}
}

func TestControls(t *testing.T) {
	n := newFake("YUYV")
	for _, id := range []uint32{userBase, lensBase + 1, lensBase + 2} {
		n.controls[id] = 7
	}
	on := func(v int) capture.Setting { return capture.Setting{Value: v, Set: true} }
	unmet := applyControls(n, capture.Controls{Brightness: on(40), Exposure: on(10_000), Contrast: on(3), Gain: on(1), GainAuto: on(0)})
	want := []string{"gain_auto: this camera has no such control", "contrast: this camera has no such control", "gain: this camera has no such control"}
	if !slices.Equal(unmet, want) {
		t.Errorf("unmet %q", unmet)
	}
	if n.controls[userBase] != 40 || n.controls[lensBase+1] != exposureManual || n.controls[lensBase+2] != 100 {
		t.Errorf("controls %v", n.controls)
	}
	if unmet := applyControls(n, capture.Controls{Brightness: on(256), ExposureAuto: on(1)}); !slices.Equal(unmet, []string{"brightness: 256 is not in its 0..255"}) {
		t.Errorf("unmet %q", unmet)
	}
	if n.controls[lensBase+1] != 3 {
		t.Errorf("automatic exposure is %d", n.controls[lensBase+1])
	}
	n.fail = map[uintptr]error{vidiocSCtrl: unix.EIO}
	if unmet := applyControls(n, capture.Controls{Brightness: on(1)}); len(unmet) != 1 || !errors.Is(setControl(n, userBase, 1), unix.EIO) {
		t.Errorf("unmet %q", unmet)
	}
}

// The device, not the configuration, has the last word on the size: what is
// too small for the layers asked for has fewer, and says so.
func TestCaptureLayers(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	for _, tt := range []struct {
		width, height, layers int
		failed                []int
	}{{320, 240, 2, nil}, {130, 98, 2, []int{2}}} {
		s := newSource(capture.VideoConfig{Layers: tt.layers + len(tt.failed)})
		n := newFake("YUYV", fakeFrame{}, fakeFrame{}, fakeFrame{}, fakeFrame{err: unix.ENODEV})
		n.width, n.height = uint32(tt.width), uint32(tt.height)
		out := &layerSink{}
		if err := runFake(s, n, out); capture.CodeOf(err) != capture.CodeUnplugged || len(out.frames) != 3*tt.layers {
			t.Errorf("%d frames, %v", len(out.frames), err)
		}
		if len(out.tracks) != tt.layers || out.tracks[1].Layer != 1 || out.tracks[1].Width != tt.width/2&^1 || out.tracks[1].Height != tt.height/2&^1 {
			t.Errorf("tracks %+v", out.tracks)
		}
		if !slices.Equal(out.failed, tt.failed) {
			t.Errorf("%v failed, want %v", out.failed, tt.failed)
		}
	}
}

type layerSink struct {
	sink
	failed []int
}

func (s *layerSink) LayerFailed(layer int, _ error) { s.failed = append(s.failed, layer) }

func BenchmarkRead(b *testing.B) {
	for _, f := range []string{"YU12", "NV12", "YUYV"} {
		b.Run(f, func(b *testing.B) {
			data := make([]byte, 1280*720*2)
			n := newFake(f, fakeFrame{data: data[:1280*720*2]})
			n.width, n.height = 1280, 720
			in := streaming(b, n)
			n.frames[0].data = data[:0:0] // what is there stays, unread by the fake
			n.frames[0].used = len(data)
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := in.Read(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
