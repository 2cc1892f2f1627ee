package v4l2

import (
	"bytes"
	"context"
	"image"
	"image/color"
	"image/jpeg"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"edged/capture"
	"edged/capture/capturetest"
	"edged/capture/encode"
)

// The tests of this file need cameras that can be told to misbehave: those of
// the kernel's drivers vivid and v4l2loopback, in a guest whose command "load"
// loads them. EDGED_TEST_GUEST says that this is one. It is emulated, and slow.

const patience = 2 * time.Minute

// inGuest loads a driver for one test.
func inGuest(t *testing.T, module string, parameters ...string) {
	t.Helper()
	if os.Getenv("EDGED_TEST_GUEST") == "" {
		t.Skip("EDGED_TEST_GUEST is not set: this is no guest with cameras")
	}
	if out, err := exec.Command("load", append([]string{module}, parameters...)...).CombinedOutput(); err != nil {
		t.Fatalf("load %s: %v: %s", module, err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("rmmod", module).CombinedOutput(); err != nil {
			t.Errorf("rmmod %s: %v: %s: the device is still open", module, err, out)
		}
	})
}

// videos lists the nodes of /dev whose driver calls itself something with
// name.
func videos(t *testing.T, name string) []string {
	t.Helper()
	devices, err := Devices()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, d := range devices {
		if strings.Contains(d.Name, name) {
			out = append(out, d.Path)
		}
	}
	return out
}

// tell sets a control of a device by its name, as v4l2-ctl does.
func tell(t *testing.T, path, name string, value int32) {
	t.Helper()
	n, err := openNode(path)
	if err != nil {
		t.Error(err)
		return
	}
	defer n.close()
	const next = 0x80000000
	for q := (queryControl{id: next}); n.ioctl(vidiocQueryCtrl, unsafe.Pointer(&q)) == nil; q = (queryControl{id: q.id | next}) {
		if text, _, _ := bytes.Cut(q.name[:], []byte{0}); string(text) != name {
			continue
		}
		c := control{id: q.id, value: value}
		if err := n.ioctl(vidiocSCtrl, unsafe.Pointer(&c)); err != nil {
			t.Errorf("%s = %d: %v", name, value, err)
		}
		return
	}
	t.Errorf("%s has no control %q", path, name)
}

func source(t *testing.T, device string, video capture.VideoConfig) *Source {
	t.Helper()
	video.Bitrate = 1_000_000
	s, err := New(capture.Config{ID: "v", Source: "v4l2:" + device, Video: video}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var small = capture.VideoConfig{Width: 320, Height: 180, FPS: 15}

// run runs a source until it has delivered enough frames or failed.
func run(t *testing.T, s *Source, enough int) (*sink, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &sink{enough: enough, stop: cancel}
	err := s.Run(ctx, out)
	return out, err
}

// mustRun wants enough frames whose times make sense.
func mustRun(t *testing.T, s *Source, enough int) *sink {
	t.Helper()
	out, err := run(t, s, enough)
	if err != nil || len(out.frames) < enough {
		t.Fatalf("%d frames of %d, %v", len(out.frames), enough, err)
	}
	if !out.frames[0].Keyframe {
		t.Error("the first frame is no keyframe")
	}
	for i, f := range out.frames[1:] {
		d := f.Captured.Sub(out.frames[i].Captured)
		ticks := time.Duration(int32(f.RTPTime-out.frames[i].RTPTime)) * time.Second / 90000
		if d <= 0 || (ticks-d).Abs() > time.Millisecond {
			t.Errorf("frame %d: %v after the one before, by its RTP time %v", i+1, d, ticks)
		}
	}
	if age := time.Since(out.frames[enough-1].Captured); age < 0 || age > patience {
		t.Errorf("the last frame was seen %v ago", age)
	}
	return out
}

// The bars of vivid's test picture come out the same, whatever the layout,
// the number of planes and the stride of the pictures.
func TestGuestFormats(t *testing.T) {
	inGuest(t, "vivid", "n_devs=2", "node_types=0x1,0x1", "num_inputs=1,1", "input_types=0x0,0x0", "multiplanar=1,2")
	devices := videos(t, "vivid")
	if len(devices) != 2 {
		t.Fatalf("%v", devices)
	}
	var want []color.YCbCr
	for i, list := range [][]string{{"YUYV", "UYVY", "NV12", "NV21", "YU12"}, {"YUYV", "NV12", "NV21", "YU12", "NM12", "NM21", "YM12"}} {
		for _, name := range list {
			got := bars(t, devices[i], name)
			if want == nil {
				want = got
			}
			for x := range got {
				if apart(got[x], want[x]) > 4 {
					t.Errorf("%s of camera %d: bar %d is %v, of the first format %v", name, i, x, got[x], want[x])
				}
			}
		}
	}
	if apart(want[0], want[3]) < 40 {
		t.Errorf("the bars are all alike: %v", want)
	}
}

func apart(a, b color.YCbCr) int {
	d := func(x, y uint8) int { return max(int(x)-int(y), int(y)-int(x)) }
	return max(d(a.Y, b.Y), d(a.Cb, b.Cb), d(a.Cr, b.Cr))
}

// bars captures in a format and samples the eight bars of the picture, low,
// where the driver writes no text.
func bars(t *testing.T, path, name string) []color.YCbCr {
	t.Helper()
	f := formatOf(fourcc(name))
	dev, err := open(path, mode{width: 320, height: 180})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.close()
	i := slices.IndexFunc(dev.camera.offers, func(m mode) bool { return m.format == f && m.width == 320 })
	if i < 0 {
		t.Fatalf("%s offers no %s: %v", path, name, dev.camera.offers)
	}
	// Through mediadevices NV12 and NV12M have one name: choose below it.
	in, err := startStream(dev.camera.node, dev.camera.typ, dev.camera.offers[i])
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	dev.camera.stream = in
	img, _, err := in.Read()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	picture := img.(*Frame)
	if picture.Rect != image.Rect(0, 0, 320, 180) {
		t.Errorf("%s: a picture of %v", name, picture.Rect)
	}
	var out []color.YCbCr
	for bar := range 8 {
		out = append(out, picture.YCbCrAt(bar*40+20, 160))
	}
	return out
}

// Two cameras that choose by themselves get one each; a third gets none, and
// hears why. All is through mediadevices.
func TestGuestAuto(t *testing.T) {
	inGuest(t, "vivid", "n_devs=2", "node_types=0x1,0x1", "num_inputs=1,1", "input_types=0x0,0x0")
	needEncoder(t)
	var group sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var outs [2]*sink
	both := make(chan struct{}, 2)
	for i := range outs {
		outs[i] = &sink{enough: 5, stop: func() { both <- struct{}{} }}
		s := source(t, "auto", small)
		group.Go(func() {
			if err := s.Run(ctx, outs[i]); err != nil {
				t.Errorf("camera %d: %v", i, err)
				both <- struct{}{}
			}
		})
	}
	<-both
	<-both
	if _, err := run(t, source(t, "auto", small), 1); capture.CodeOf(err) != capture.CodeBusy || err == nil {
		t.Errorf("a third camera: %v", err)
	}
	cancel()
	group.Wait()
	for i, out := range outs {
		if len(out.tracks) != 1 || out.tracks[0].Width != 320 || out.tracks[0].Height != 180 {
			t.Errorf("camera %d: %+v", i, out.tracks)
		}
	}
}

func needEncoder(t *testing.T) {
	t.Helper()
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
}

// What vivid injects: frames left out, frames with errors, counters and times
// that wrap, errors of every request, and the device's disconnection.
func TestGuestErrors(t *testing.T) {
	inGuest(t, "vivid", "n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x0")
	needEncoder(t)
	path := videos(t, "vivid")[0]

	s := source(t, path, small)
	tell(t, path, "Percentage of Dropped Buffers", 50)
	mustRun(t, s, 20)
	if s.Input().Lost == 0 {
		t.Error("half of the frames were left out, and none counted")
	}
	tell(t, path, "Percentage of Dropped Buffers", 0)
	tell(t, path, "Wrap Sequence Number", 1)
	tell(t, path, "Wrap Timestamp", 1)
	lost := s.Input().Lost
	mustRun(t, s, 10)
	tell(t, path, "Wrap Sequence Number", 0)
	tell(t, path, "Wrap Timestamp", 0)
	t.Logf("%d frames lost while the counter wrapped", s.Input().Lost-lost)

	for name, want := range map[string]capture.Code{
		"Inject VIDIOC_REQBUFS Error":  capture.CodeProtocol,
		"Inject VIDIOC_QBUF Error":     capture.CodeProtocol,
		"Inject VIDIOC_STREAMON Error": capture.CodeProtocol,
	} {
		tell(t, path, name, 1)
		if _, err := run(t, s, 1); err == nil || capture.CodeOf(err) != want {
			t.Errorf("%s: %v", name, err)
		}
		mustRun(t, s, 2) // it is injected once
	}
	for name, want := range map[string]capture.Code{
		"Inject Fatal Streaming Error": capture.CodeUnplugged,
		"Disconnect":                   capture.CodeUnplugged,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		out := &sink{enough: 3, stop: func() { tell(t, path, name, 1) }}
		if err := s.Run(ctx, out); err == nil || capture.CodeOf(err) != want {
			t.Errorf("%s: after %d frames %v", name, len(out.frames), err)
		}
		cancel()
		mustRun(t, s, 2)
	}
	before := s.Input().Damaged
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &sink{enough: 3}
	out.stop = func() {
		if out.enough == 3 {
			out.enough = 8
			tell(t, path, "Inject V4L2_BUF_FLAG_ERROR", 1)
			return
		}
		cancel()
	}
	if err := s.Run(ctx, out); err != nil || s.Input().Damaged != before+1 {
		t.Errorf("%d damaged, %v", s.Input().Damaged-before, err)
	}
}

func TestGuestControls(t *testing.T) {
	inGuest(t, "vivid", "n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x0")
	needEncoder(t)
	path := videos(t, "vivid")[0]
	s := source(t, path, small)
	on := func(v int) capture.Setting { return capture.Setting{Value: v, Set: true} }
	s.controls = capture.Controls{Brightness: on(200), Gain: on(77), Zoom: on(3), Contrast: on(999)}
	mustRun(t, s, 2)
	in := s.Input()
	if len(in.Unmet) != 2 || !strings.HasPrefix(in.Unmet[0], "contrast: 999 is not in") || in.Unmet[1] != "zoom: this camera has no such control" {
		t.Errorf("unmet %q", in.Unmet)
	}
	n, err := openNode(path)
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	for id, want := range map[uint32]int32{userBase: 200, userBase + 19: 77, gainAuto: 0} {
		c := control{id: id}
		if err := n.ioctl(vidiocGCtrl, unsafe.Pointer(&c)); err != nil || c.value != want {
			t.Errorf("control %x is %d, want %d: %v", id, c.value, want, err)
		}
	}
}

// A grabber whose signal becomes another: the run ends and says so, the next
// one has the new size.
func TestGuestSignal(t *testing.T) {
	inGuest(t, "vivid", "n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x3", "ccs_cap_mode=0") // it does not scale
	needEncoder(t)
	path := videos(t, "vivid")[0]
	s := source(t, path, small)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out := &sink{enough: 2, stop: func() {
		tell(t, path, "DV Timings", 2)             // 720 × 480, progressive
		tell(t, path, "DV Timings Signal Mode", 4) // the selected ones
	}}
	err := s.Run(ctx, out)
	if err == nil || !strings.Contains(err.Error(), "another size") {
		t.Errorf("after %d frames: %v", len(out.frames), err)
	}
	next := mustRun(t, s, 2)
	if len(out.tracks) == 0 || out.tracks[0].Width == next.tracks[0].Width && out.tracks[0].Height == next.tracks[0].Height {
		t.Errorf("%+v, then %+v", out.tracks, next.tracks)
	}
	tell(t, path, "DV Timings Signal Mode", 1) // no signal
	if _, err := run(t, s, 1); err == nil || !strings.Contains(err.Error(), "no signal") {
		t.Errorf("without a signal: %v", err)
	}
}

// What cameras encode is passed through; pictures and memory stay as they are.
func TestGuestLoopback(t *testing.T) {
	inGuest(t, "v4l2loopback", "video_nr=40", "card_label=loop", "exclusive_caps=1")
	if got := videos(t, "loop"); len(got) != 0 {
		t.Errorf("%v listed, which deliver nothing yet", got)
	}
	t.Run("H264", func(t *testing.T) {
		clip := units(capturetest.Clip())
		feed(t, "H264", clip)
		s := source(t, videos(t, "loop")[0], capture.VideoConfig{Width: 640, Height: 360})
		out := mustRun(t, s, 20)
		track := out.tracks[0]
		if track.Codec != capture.H264 || track.Width == 0 || s.Encoder() != "camera" || !strings.HasPrefix(s.Input().Mode, "H264 ") {
			t.Errorf("%+v by %s, %+v", track, s.Encoder(), s.Input())
		}
	})
	t.Run("MJPEG", func(t *testing.T) {
		needEncoder(t)
		img := image.NewYCbCr(image.Rect(0, 0, 640, 360), image.YCbCrSubsampleRatio422)
		var b bytes.Buffer
		if err := jpeg.Encode(&b, img, nil); err != nil {
			t.Fatal(err)
		}
		feed(t, "MJPG", [][]byte{b.Bytes()})
		s := source(t, videos(t, "loop")[0], capture.VideoConfig{Width: 640, Height: 360})
		out := mustRun(t, s, 3)
		if out.tracks[0].Width != 640 || out.tracks[0].Height != 360 || !strings.HasPrefix(s.Input().Mode, "MJPEG ") {
			t.Errorf("%+v, %+v", out.tracks, s.Input())
		}
	})
}

// feed writes units to the loop for as long as the test lasts, ten a second.
func feed(t *testing.T, name string, units [][]byte) {
	t.Helper()
	f, err := os.OpenFile("/dev/video40", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	format := pixFormat{typ: 2, width: 640, height: 360, fourcc: fourcc(name), field: fieldNone, sizeImage: 640 * 360 * 2}
	if errno := ioctl(f.Fd(), vidiocSFmt, unsafe.Pointer(&format)); errno != 0 {
		t.Fatal(errno)
	}
	if _, err := f.Write(units[0]); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if _, err := f.Write(units[i%len(units)]); err != nil {
				t.Errorf("feed: %v", err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Through mediadevices and the kernel, a picture allocates nothing.
func TestGuestAllocates(t *testing.T) {
	inGuest(t, "vivid", "n_devs=1", "node_types=0x1", "num_inputs=1", "input_types=0x0")
	dev, err := open(videos(t, "vivid")[0], mode{})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.close()
	i := choose(dev.camera.offers, mode{width: 320, height: 180, fps: 15}, func(f *format) bool { return f.name == "YUYV" })
	in, err := dev.start(dev.camera.offers[i])
	if err != nil {
		t.Fatal(err)
	}
	read := func(n int) (mallocs uint64) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range n {
			if _, _, err := in.Read(); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return after.Mallocs - before.Mallocs
	}
	read(5)
	const pictures = 60
	if n := read(pictures); n > pictures/4 { // those of the runtime itself, and of nothing for each picture
		t.Errorf("%d allocations in %d pictures", n, pictures)
	} else {
		t.Logf("%d allocations in %d pictures", n, pictures)
	}
}
