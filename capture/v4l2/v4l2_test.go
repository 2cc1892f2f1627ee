package v4l2

import (
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"unsafe"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"edged/capture"
	"edged/capture/encode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func TestNew(t *testing.T) {
	for source, ok := range map[string]bool{
		"v4l2:auto":                   true,
		"v4l2:/dev/video0":            true,
		"v4l2:/dev/v4l/by-id/usb-cam": true,
		"v4l2:":                       false,
		"v4l2:video0":                 false,
		"v4l2:/etc/passwd":            false,
		"v4l2:/dev/../etc/passwd":     false,
		"pattern:":                    false,
	} {
		if _, err := New(capture.Config{Source: source}, quiet); (err == nil) != ok {
			t.Errorf("%s: %v", source, err)
		}
	}
}

// A tree as the kernel and udev make it.
func tree(t *testing.T, files, links map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range links {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, name); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDevices(t *testing.T) {
	root := tree(t, map[string]string{
		"class/video0/name":     "HD Webcam: HD Webcam\n",
		"class/video0/dev":      "81:0\n",
		"class/video1/name":     "HD Webcam: Metadata\n",
		"class/video1/dev":      "81:1\n",
		"class/video10/name":    "bcm2835-codec-decode\n",
		"class/video2/name":     "grabber\n",
		"class/video3/name":     "locked\n",
		"class/video4/name":     "gone\n",
		"class/v4l-subdev0/dev": "81:9\n",
		"class/vbi0/name":       "teletext\n",
		"udev/c81:0":            "N:video0\nE:ID_V4L_VERSION=2\nE:ID_V4L_CAPABILITIES=:capture:\n",
		"udev/c81:1":            "E:ID_V4L_CAPABILITIES=:\n",
	}, map[string]string{"dev/v4l/by-id/usb-HD_Webcam-video-index0": "../../video0"})
	var asked []string
	s := system{class: root + "/class", dev: root + "/dev", udev: root + "/udev", ask: func(path string) (bool, error) {
		asked = append(asked, filepath.Base(path))
		switch filepath.Base(path) {
		case "video2":
			return true, nil
		case "video3":
			return false, unix.EACCES
		case "video4":
			return false, unix.ENODEV
		}
		return false, nil
	}}
	got, err := s.devices()
	want := []Device{
		{"HD Webcam: HD Webcam", root + "/dev/video0", root + "/dev/v4l/by-id/usb-HD_Webcam-video-index0"},
		{"grabber", root + "/dev/video2", ""},
		{"locked", root + "/dev/video3", ""},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, a := range asked {
		if a == "video0" || a == "video1" {
			t.Errorf("%s was opened, though udev knows it", a)
		}
	}
	if len(asked) != 4 {
		t.Errorf("asked %v", asked)
	}
	s.class = root + "/none"
	if got, err := s.devices(); err != nil || got != nil {
		t.Errorf("a kernel without V4L2: %v, %v", got, err)
	}
}

func TestAskNode(t *testing.T) {
	if n := unsafe.Sizeof(capability{}); n != 104 {
		t.Errorf("struct v4l2_capability has %d bytes", n)
	}
	var errno unix.Errno // ENOTTY from a kernel, ENOSYS from user-mode emulation
	if _, err := askNode("/dev/null"); !errors.As(err, &errno) || errno == unix.ENOENT {
		t.Errorf("/dev/null: %v", err)
	}
	if _, err := askNode(filepath.Join(t.TempDir(), "x")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nothing: %v", err)
	}
}

func TestCapability(t *testing.T) {
	for name, tt := range map[string]struct {
		c    capability
		want bool
	}{
		"camera":            {capability{caps: 0x84a00001, deviceCaps: 0x04200001}, true},
		"its metadata":      {capability{caps: 0x84a00001, deviceCaps: 0x04a00000}, false},
		"old driver":        {capability{caps: 0x04000001}, true},
		"read() only":       {capability{caps: 0x01000001}, false},
		"encoder":           {capability{caps: 0x84204000, deviceCaps: 0x04204000}, false},
		"encoder that lies": {capability{caps: 0x04008001}, false},
	} {
		if got := tt.c.captures(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestCodeOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want capture.Code
	}{
		{unix.EBUSY, capture.CodeBusy},
		{errors.New("Failed to map request buffers: device or resource busy"), capture.CodeBusy},
		{&fs.PathError{Op: "open", Path: "/dev/video0", Err: unix.EACCES}, capture.CodeDenied},
		{unix.ENOENT, capture.CodeNotFound},
		{fmt.Errorf("read: %w", unix.ENODEV), capture.CodeUnplugged},
		{unix.EINVAL, capture.CodeProtocol},
	} {
		if got := codeOf(tt.err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
	}
}

func TestRunWithoutDevice(t *testing.T) {
	for _, path := range []string{"/dev/video-none", "/dev/null"} {
		s, err := New(capture.Config{Source: "v4l2:" + path}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		err = s.Run(t.Context(), &sink{})
		want := capture.CodeNotFound
		if path == "/dev/null" {
			want = capture.CodeProtocol // ENOTTY
			if encode.Name == "" {
				want = capture.CodeEncoder
			}
		}
		if capture.CodeOf(err) != want {
			t.Errorf("%s: %s: %v", path, capture.CodeOf(err), err)
		}
	}
}

func TestChoose(t *testing.T) {
	want := mode{width: 1280, height: 720, fps: 30}
	for _, tt := range []struct {
		name  string
		modes []mode
		want  int
	}{
		{"nothing", nil, -1},
		{"nothing that can be used", []mode{{"Z16", 1280, 720, 30}}, -1},
		{"exact", []mode{{"YUYV", 640, 480, 30}, {"YUYV", 1280, 720, 30}}, 1},
		{"USB 2: the full rate is worth the decoder", []mode{{"YUYV", 1280, 720, 10}, {"MJPEG", 1280, 720, 30}}, 1},
		{"cheapest of equals", []mode{{"MJPEG", 1280, 720, 30}, {"YUYV", 1280, 720, 30}, {"NV12", 1280, 720, 30}}, 2},
		{"NTSC is as good", []mode{{"MJPEG", 1280, 720, 30}, {"YUYV", 1280, 720, 29.97}}, 1},
		{"nearest size", []mode{{"YUYV", 1920, 1080, 30}, {"YUYV", 1024, 768, 30}}, 1},
		{"no faster than needed", []mode{{"YUYV", 1280, 720, 60}, {"YUYV", 1280, 720, 30}}, 1},
		{"rate unknown", []mode{{"YUYV", 1280, 720, 0}}, 0},
	} {
		if got := choose(tt.modes, want); got != tt.want {
			t.Errorf("%s: %d", tt.name, got)
		}
	}
}

var ratios = []image.YCbCrSubsampleRatio{
	image.YCbCrSubsampleRatio444, image.YCbCrSubsampleRatio422, image.YCbCrSubsampleRatio420,
	image.YCbCrSubsampleRatio440, image.YCbCrSubsampleRatio411, image.YCbCrSubsampleRatio410,
}

func TestConvert(t *testing.T) {
	for _, ratio := range ratios {
		for _, size := range []image.Point{{64, 48}, {65, 49}, {641, 480}} {
			src := image.NewYCbCr(image.Rectangle{Max: size}, ratio)
			for i := range src.Y {
				src.Y[i] = byte(rand.IntN(256))
			}
			for i := range src.Cb {
				src.Cb[i], src.Cr[i] = 90, 200
			}
			got, err := newConverter(size.X, size.Y).convert(src)
			if err != nil {
				t.Fatal(err)
			}
			if got.SubsampleRatio != image.YCbCrSubsampleRatio420 || got.Rect != image.Rect(0, 0, size.X&^1, size.Y&^1) {
				t.Fatalf("%v %v became %v %v", ratio, size, got.SubsampleRatio, got.Rect)
			}
			for y := range got.Rect.Dy() {
				for x := range got.Rect.Dx() {
					a, b := src.YCbCrAt(x, y), got.YCbCrAt(x, y)
					if a != b {
						t.Fatalf("%v %v: pixel %d,%d is %v, was %v", ratio, size, x, y, b, a)
					}
				}
			}
		}
	}
}

func TestConvertOthers(t *testing.T) {
	grey := image.NewGray(image.Rect(0, 0, 32, 32))
	rgb := image.NewRGBA(image.Rect(0, 0, 32, 32))
	for i := range grey.Pix {
		grey.Pix[i] = 77
		rgb.Set(i%32, i/32, color.RGBA{77, 77, 77, 255})
	}
	for _, img := range []image.Image{grey, rgb} {
		got, err := newConverter(32, 32).convert(img)
		if err != nil || got.YCbCrAt(31, 31) != (color.YCbCr{Y: 77, Cb: 128, Cr: 128}) {
			t.Errorf("%T: %v, %v", img, got.YCbCrAt(31, 31), err)
		}
	}
	same := image.NewYCbCr(image.Rect(0, 0, 32, 32), image.YCbCrSubsampleRatio420)
	if got, _ := newConverter(32, 32).convert(same); got != same {
		t.Error("a picture that needs nothing was copied")
	}
	if _, err := newConverter(64, 64).convert(grey); err == nil {
		t.Error("a picture of another size was accepted")
	}
}

func TestConvertAllocates(t *testing.T) {
	src := image.NewYCbCr(image.Rect(0, 0, 640, 480), image.YCbCrSubsampleRatio422)
	c := newConverter(640, 480)
	if n := testing.AllocsPerRun(10, func() { _, _ = c.convert(src) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// scripted is a device as it misbehaves. What one delivers is in TestDevice.
type scripted struct {
	offers []mode
	starts error
	reads  []any // an image or an error each; the last for ever
	closed int
}

func (s *scripted) modes() []mode   { return s.offers }
func (s *scripted) start(int) error { return s.starts }
func (s *scripted) close() error    { s.closed++; return nil }
func (s *scripted) read() (image.Image, error) {
	r := s.reads[0]
	if len(s.reads) > 1 {
		s.reads = s.reads[1:]
	}
	if err, ok := r.(error); ok {
		return nil, err
	}
	return r.(image.Image), nil
}

func TestCaptureFails(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	yuyv := []mode{{"YUYV", 64, 48, 30}}
	good := image.NewYCbCr(image.Rect(0, 0, 64, 48), image.YCbCrSubsampleRatio422)
	gone := capture.Errorf(capture.CodeUnplugged, "read: %w", unix.ENODEV)
	for _, tt := range []struct {
		name   string
		dev    scripted
		want   capture.Code
		frames int
	}{
		{"no format", scripted{offers: []mode{{"Z16", 64, 48, 30}}}, capture.CodeCodec, 0},
		{"busy", scripted{offers: yuyv, starts: capture.Errorf(capture.CodeBusy, "busy")}, capture.CodeBusy, 0},
		{"unplugged", scripted{offers: yuyv, reads: []any{good, good, errNoPicture, good, gone}}, capture.CodeUnplugged, 3},
		{"damaged now and then", scripted{offers: yuyv, reads: []any{good, errDamaged, good, gone}}, capture.CodeUnplugged, 2},
		{"damaged for good", scripted{offers: yuyv, reads: []any{good, errDamaged}}, capture.CodeProtocol, 1},
		{"another size", scripted{offers: yuyv, reads: []any{image.NewGray(image.Rect(0, 0, 32, 32))}}, capture.CodeProtocol, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := New(capture.Config{Source: "v4l2:auto"}, quiet)
			if err != nil {
				t.Fatal(err)
			}
			out := &sink{}
			if err := s.capture(t.Context(), &tt.dev, out); capture.CodeOf(err) != tt.want {
				t.Errorf("%v", err)
			}
			if len(out.frames) != tt.frames {
				t.Errorf("%d frames", len(out.frames))
			}
		})
	}
}

func TestCaptureStops(t *testing.T) {
	if encode.Name == "" {
		t.Skip("this build has no encoder")
	}
	s, _ := New(capture.Config{Source: "v4l2:auto"}, quiet)
	ctx, cancel := context.WithCancel(t.Context())
	out := &sink{stop: cancel, enough: 3}
	s.Keyframe(0)
	dev := &scripted{offers: []mode{{"MJPEG", 64, 48, 30}}, reads: []any{image.NewYCbCr(image.Rect(0, 0, 64, 48), image.YCbCrSubsampleRatio420)}}
	if err := s.capture(ctx, dev, out); err != nil || len(out.frames) != 3 {
		t.Errorf("%d frames, %v", len(out.frames), err)
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
		s, _ := New(capture.Config{Source: "v4l2:auto", Video: capture.VideoConfig{Layers: tt.layers + len(tt.failed)}}, quiet)
		ctx, cancel := context.WithCancel(t.Context())
		out := &layerSink{sink: sink{stop: cancel, enough: 3 * tt.layers}}
		picture := image.NewYCbCr(image.Rect(0, 0, tt.width, tt.height), image.YCbCrSubsampleRatio422)
		dev := &scripted{offers: []mode{{"YUYV", tt.width, tt.height, 30}}, reads: []any{picture}}
		if err := s.capture(ctx, dev, out); err != nil || len(out.frames) != 3*tt.layers {
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

func BenchmarkConvert422(b *testing.B) {
	src := image.NewYCbCr(image.Rect(0, 0, 1280, 720), image.YCbCrSubsampleRatio422)
	c := newConverter(1280, 720)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = c.convert(src)
	}
}
