package main

import (
	"slices"
	"testing"

	"edged/capture"
	"edged/capture/v4l2"
	"edged/internal/config"
)

// Cameras that come later come behind, whatever their number; those that go
// stay, and are known again by any of their names.
func TestDefaultDocument(t *testing.T) {
	webcam := v4l2.Device{Path: "/dev/video4", ByID: "/dev/v4l/by-id/usb-webcam"}
	moved := v4l2.Device{Path: "/dev/video0", ByID: "/dev/v4l/by-id/usb-webcam"}
	grabber := v4l2.Device{Path: "/dev/video2", ByPath: "/dev/v4l/by-path/pci-1"}
	plain := v4l2.Device{Path: "/dev/video9"}
	var running []capture.Config
	for _, step := range []struct {
		found []v4l2.Device
		want  []string
	}{
		{nil, []string{"demo pattern:"}},
		{[]v4l2.Device{webcam}, []string{"demo pattern:", "camera-1 v4l2:/dev/v4l/by-id/usb-webcam"}},
		{[]v4l2.Device{grabber, webcam}, []string{"demo pattern:", "camera-1 v4l2:/dev/v4l/by-id/usb-webcam", "camera-2 v4l2:/dev/v4l/by-path/pci-1"}},
		{[]v4l2.Device{moved, plain}, []string{"demo pattern:", "camera-1 v4l2:/dev/v4l/by-id/usb-webcam", "camera-2 v4l2:/dev/v4l/by-path/pci-1", "camera-3 v4l2:/dev/video9"}},
		{nil, []string{"demo pattern:", "camera-1 v4l2:/dev/v4l/by-id/usb-webcam", "camera-2 v4l2:/dev/v4l/by-path/pci-1", "camera-3 v4l2:/dev/video9"}},
	} {
		cfg, err := config.Parse(defaultDocument(running, step.found))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, c := range cfg.Cameras {
			got = append(got, c.ID+" "+c.Source)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%v found: %q, want %q", step.found, got, step.want)
		}
		running = cfg.Cameras
	}
}
