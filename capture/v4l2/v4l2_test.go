package v4l2

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"

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
	}, map[string]string{
		"dev/v4l/by-id/usb-HD_Webcam-video-index0":                  "../../video0",
		"dev/v4l/by-path/pci-0000:00:14.0-usb-0:3:1.0-video-index0": "../../video2",
	})
	var asked []string
	s := system{class: root + "/class", dev: root + "/dev", udev: root + "/udev", ask: func(path string) (bool, error) {
		asked = append(asked, filepath.Base(path))
		switch filepath.Base(path) {
		case "video0", "video2":
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
		{"HD Webcam: HD Webcam", root + "/dev/video0", root + "/dev/v4l/by-id/usb-HD_Webcam-video-index0", ""},
		{"grabber", root + "/dev/video2", "", root + "/dev/v4l/by-path/pci-0000:00:14.0-usb-0:3:1.0-video-index0"},
		{"locked", root + "/dev/video3", "", ""},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, a := range asked {
		if a == "video1" {
			t.Errorf("%s was opened, though udev knows that it is none", a)
		}
	}
	if len(asked) != 5 {
		t.Errorf("asked %v", asked)
	}
	s.class = root + "/none"
	if got, err := s.devices(); err != nil || got != nil {
		t.Errorf("a kernel without V4L2: %v, %v", got, err)
	}
}

func TestAskNode(t *testing.T) {
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
		want uint32
	}{
		"camera":            {capability{caps: 0x84a00001, deviceCaps: 0x04200001}, typeCapture},
		"its metadata":      {capability{caps: 0x84a00001, deviceCaps: 0x04a00000}, 0},
		"multi-planar":      {capability{caps: 0x84201000, deviceCaps: 0x04201000}, typeCaptureMplane},
		"output":            {capability{caps: 0x84200002, deviceCaps: 0x04200002}, 0},
		"old driver":        {capability{caps: 0x04000001}, typeCapture},
		"read() only":       {capability{caps: 0x01000001}, 0},
		"encoder":           {capability{caps: 0x84204000, deviceCaps: 0x04204000}, 0},
		"encoder that lies": {capability{caps: 0x04008001}, 0},
	} {
		if got, ok := tt.c.queue(); got != tt.want || ok != (tt.want != 0) {
			t.Errorf("%s: %v", name, got)
		}
	}
	isp := capability{}
	copy(isp.driver[:], "bcm2835-isp")
	for name, c := range map[string]capability{"a signal processor": isp, "a bare sensor": {deviceCaps: capIOMC}} {
		if !c.inPipeline() {
			t.Errorf("%s alone is taken for a camera", name)
		}
	}
}

func TestCodeOf(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want capture.Code
	}{
		{unix.EBUSY, capture.CodeBusy},
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
	for path, want := range map[string]capture.Code{"/dev/video-none": capture.CodeNotFound, "/dev/null": capture.CodeProtocol} {
		s, err := New(capture.Config{Source: "v4l2:" + path}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		if err = s.Run(t.Context(), &sink{}); capture.CodeOf(err) != want {
			t.Errorf("%s: %s: %v", path, capture.CodeOf(err), err)
		}
	}
}

func named(name string) *format {
	for i := range formats {
		if formats[i].name == name {
			return &formats[i]
		}
	}
	return nil
}

func TestChoose(t *testing.T) {
	want := mode{width: 1280, height: 720, fps: 30}
	m := func(format string, width, height int, fps float64) mode {
		return mode{named(format), width, height, fps}
	}
	for _, tt := range []struct {
		name  string
		modes []mode
		want  int
	}{
		{"nothing", nil, -1},
		{"exact", []mode{m("YUYV", 640, 480, 30), m("YUYV", 1280, 720, 30)}, 1},
		{"USB 2: the full rate is worth the decoder", []mode{m("YUYV", 1280, 720, 10), m("MJPEG", 1280, 720, 30)}, 1},
		{"cheapest of equals", []mode{m("MJPEG", 1280, 720, 30), m("YUYV", 1280, 720, 30), m("NV12", 1280, 720, 30)}, 2},
		{"a camera that encodes", []mode{m("NV12", 1280, 720, 30), m("H264", 1280, 720, 30)}, 1},
		{"what few decode", []mode{m("H265", 1280, 720, 30), m("MJPEG", 640, 480, 30)}, 1},
		{"what few decode, alone", []mode{m("H265", 1280, 720, 30)}, 0},
		{"NTSC is as good", []mode{m("MJPEG", 1280, 720, 30), m("YUYV", 1280, 720, 29.97)}, 1},
		{"nearest size", []mode{m("YUYV", 1920, 1080, 30), m("YUYV", 1024, 768, 30)}, 1},
		{"no faster than needed", []mode{m("YUYV", 1280, 720, 60), m("YUYV", 1280, 720, 30)}, 1},
		{"rate unknown", []mode{m("YUYV", 1280, 720, 0)}, 0},
		{"sizes of no camera", []mode{m("YUYV", 1<<20, 720, 0), m("YUYV", 8, 720, 0)}, -1},
	} {
		if got := choose(tt.modes, want, func(*format) bool { return true }); got != tt.want {
			t.Errorf("%s: %d", tt.name, got)
		}
	}
	for layers, want := range map[int]string{1: "H264", 2: "YUYV"} {
		both := []mode{m("H264", 1280, 720, 30), m("YUYV", 1280, 720, 10)}
		if encode.Name == "" {
			want = "H264"
		}
		if got, err := newSource(capture.VideoConfig{Layers: layers}).choose(both); err != nil || got.format.name != want {
			t.Errorf("%d layers of %v, %v", layers, got, err)
		}
	}
	if _, err := newSource(capture.VideoConfig{}).choose(nil); capture.CodeOf(err) != capture.CodeCodec {
		t.Error(err)
	}
}
