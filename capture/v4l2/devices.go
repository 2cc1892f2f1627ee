package v4l2

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// Device is a V4L2 node that pictures can be captured from.
type Device struct {
	Name string // as the driver calls it
	Path string // /dev/videoN
	ByID string // /dev/v4l/by-id/…, which stays when cables move; empty where the device has none
}

// Devices lists the capture devices by number. Nodes that udev knows to be
// something else (encoders, metadata) are not opened; the rest are opened for
// one question and closed.
func Devices() ([]Device, error) {
	return system{class: "/sys/class/video4linux", dev: "/dev", udev: "/run/udev/data", ask: askNode}.devices()
}

// system is where the kernel and udev tell of devices.
type system struct {
	class, dev, udev string
	ask              func(path string) (capture bool, err error)
}

func (s system) devices() ([]Device, error) {
	entries, err := os.ReadDir(s.class)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) { // a kernel without V4L2, or nothing plugged in
			return nil, nil
		}
		return nil, fmt.Errorf("v4l2: devices: %w", err)
	}
	type numbered struct {
		n int
		Device
	}
	byID := s.links()
	var found []numbered
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "video")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || !s.captures(e.Name()) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(s.class, e.Name(), "name"))
		found = append(found, numbered{n, Device{
			Name: strings.TrimSpace(string(name)), Path: filepath.Join(s.dev, e.Name()), ByID: byID[e.Name()],
		}})
	}
	slices.SortFunc(found, func(a, b numbered) int { return a.n - b.n })
	out := make([]Device, len(found))
	for i, f := range found {
		out[i] = f.Device
	}
	return out, nil
}

// captures asks udev, and the device itself where udev does not know.
func (s system) captures(node string) bool {
	number, err := os.ReadFile(filepath.Join(s.class, node, "dev"))
	if err == nil {
		about, err := os.ReadFile(filepath.Join(s.udev, "c"+strings.TrimSpace(string(number))))
		if _, caps, ok := strings.Cut(string(about), "ID_V4L_CAPABILITIES="); err == nil && ok {
			caps, _, _ = strings.Cut(caps, "\n")
			return strings.Contains(caps, ":capture:")
		}
	}
	ok, err := s.ask(filepath.Join(s.dev, node))
	// A device that is there but may not be opened is listed: it is the
	// operator who can change that.
	return ok || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EBUSY)
}

// links maps videoN to its stable name.
func (s system) links() map[string]string {
	out := map[string]string{}
	dir := filepath.Join(s.dev, "v4l", "by-id")
	entries, _ := os.ReadDir(dir) // absent where nothing is plugged in
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(link); err == nil {
			out[filepath.Base(to)] = link
		}
	}
	return out
}

// capability is struct v4l2_capability of linux/videodev2.h, 104 bytes.
type capability struct {
	_          [16 + 32 + 32]byte // driver, card, bus_info
	_          uint32             // version
	caps       uint32
	deviceCaps uint32
	_          [3]uint32
}

const (
	vidiocQuerycap  = 0x80685600 // _IOR('V', 0, struct v4l2_capability)
	capVideoCapture = 0x00000001
	capM2M          = 0x00008000
	capStreaming    = 0x04000000
	capDeviceCaps   = 0x80000000
)

// askNode asks a node whether it delivers pictures.
func askNode(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var c capability
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), vidiocQuerycap, uintptr(unsafe.Pointer(&c)))
	runtime.KeepAlive(&c)
	if errno != 0 {
		return false, errno
	}
	return c.captures(), nil
}

func (c *capability) captures() bool {
	caps := c.caps
	if caps&capDeviceCaps != 0 { // of this node, not of the whole device
		caps = c.deviceCaps
	}
	return caps&(capVideoCapture|capStreaming) == capVideoCapture|capStreaming && caps&capM2M == 0
}

// resolve finds the /dev/videoN that a configuration names.
func resolve(device string) (string, error) {
	if device != auto {
		path, err := filepath.EvalSymlinks(device)
		if err != nil {
			return "", capture.Errorf(codeOf(err), "%s: %w", device, plain(err))
		}
		return path, nil
	}
	devices, err := Devices()
	if err != nil {
		return "", capture.Errorf(capture.CodeNotFound, "%w", err)
	}
	if len(devices) == 0 {
		return "", capture.Errorf(capture.CodeNotFound, "no capture device is plugged in")
	}
	return devices[0].Path, nil
}

// plain leaves out the path that the error before names already.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// codeOf maps what the kernel says. The driver underneath keeps some of it as
// text only.
func codeOf(err error) capture.Code {
	for _, c := range []struct {
		errno unix.Errno
		code  capture.Code
	}{
		{unix.EACCES, capture.CodeDenied},
		{unix.EPERM, capture.CodeDenied},
		{unix.EBUSY, capture.CodeBusy},
		{unix.ENOENT, capture.CodeNotFound},
		{unix.ENOTDIR, capture.CodeNotFound},
		{unix.ENODEV, capture.CodeUnplugged},
		{unix.ENXIO, capture.CodeUnplugged},
		{unix.EIO, capture.CodeUnplugged},
	} {
		if errors.Is(err, c.errno) || strings.Contains(err.Error(), c.errno.Error()) {
			return c.code
		}
	}
	return capture.CodeProtocol
}
