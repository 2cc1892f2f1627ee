package v4l2

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

const kernelSays = "add@/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/video4linux/video0\x00ACTION=add\x00" +
	"DEVPATH=/devices/pci0000:00/0000:00:14.0/usb1/1-3/1-3:1.0/video4linux/video0\x00SUBSYSTEM=video4linux\x00MAJOR=81\x00MINOR=0\x00DEVNAME=video0\x00SEQNUM=4711\x00"

// udevSays is a message of udev: its header has the place of the variables,
// and hashes that may look like anything.
func udevSays() []byte {
	head := append([]byte("libudev\x00"), 0xfe, 0xed, 0xca, 0xfe)
	for _, n := range []uint32{40, 40, 60, 1, 2, 3, 0x41414141} {
		head = binary.NativeEndian.AppendUint32(head, n)
	}
	return append(head, "ACTION=remove\x00SUBSYSTEM=video4linux\x00DEVNAME=/dev/video1\x00"...)
}

func TestParseUevent(t *testing.T) {
	for _, tt := range []struct {
		message string
		want    uevent
	}{
		{kernelSays, uevent{"add", "video4linux", "video0", true}},
		{string(udevSays()), uevent{"remove", "video4linux", "video1", false}},
		{"add@/devices/x\x00ACTION=add\x00SUBSYSTEM=block\x00", uevent{"add", "block", "", true}},
		{"", uevent{kernel: true}},
		{"libudev\x00", uevent{}},
		{"libudev\x00" + strings.Repeat("\xff", 64), uevent{}},
	} {
		if got := parseUevent([]byte(tt.message)); got != tt.want {
			t.Errorf("%q: %+v", tt.message, got)
		}
	}
}

func FuzzParseUevent(f *testing.F) {
	f.Add([]byte(kernelSays))
	f.Add(udevSays())
	f.Add([]byte("libudev\x00\xfe\xed\xca\xfe\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e := parseUevent(b)
		if len(e.action)+len(e.subsystem)+len(e.node) > len(b) {
			t.Errorf("%+v of %q", e, b)
		}
	})
}

// Waiting ends with its context, and leaves nothing behind.
func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Watch(ctx, func() {}) }()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	w, err := watch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.await(ctx, func(uevent) bool { return true }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// A device that is there by the time of the wait is tried at once; one that is
// not is waited for, and no longer than wanted.
func TestAwait(t *testing.T) {
	s, err := New(testConfig("v4l2:/dev/null"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	s.absent.Store(true)
	s.Await(t.Context())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.absent.Store(false)
	s.Await(ctx)
}
