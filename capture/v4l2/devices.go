package v4l2

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
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

	ByPath string // /dev/v4l/by-path/…, which stays with the socket; empty where it has none
}

// Stable is the most stable name of the device.
func (d Device) Stable() string { return cmp.Or(d.ByID, d.ByPath, d.Path) }

// Is tells whether a path names the device.
func (d Device) Is(path string) bool {
	if path == d.Path || path == d.ByID || path == d.ByPath {
		return true
	}
	node, err := filepath.EvalSymlinks(path)
	return err == nil && node == d.Path
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
	byID, byPath := s.links("by-id"), s.links("by-path")
	var found []numbered
	for _, e := range entries {
		number, ok := strings.CutPrefix(e.Name(), "video")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || !s.captures(e.Name()) {
			continue
		}
		name, _ := os.ReadFile(filepath.Join(s.class, e.Name(), "name"))
		found = append(found, numbered{n, Device{
			Name: strings.TrimSpace(string(name)), Path: filepath.Join(s.dev, e.Name()), ByID: byID[e.Name()], ByPath: byPath[e.Name()],
		}})
	}
	slices.SortFunc(found, func(a, b numbered) int { return a.n - b.n })
	out := make([]Device, len(found))
	for i, f := range found {
		out[i] = f.Device
	}
	return out, nil
}

// captures asks the device, unless udev knows already that it does not.
func (s system) captures(node string) bool {
	number, err := os.ReadFile(filepath.Join(s.class, node, "dev"))
	if err == nil {
		about, err := os.ReadFile(filepath.Join(s.udev, "c"+strings.TrimSpace(string(number))))
		if _, caps, ok := strings.Cut(string(about), "ID_V4L_CAPABILITIES="); err == nil && ok {
			caps, _, _ = strings.Cut(caps, "\n")
			if !strings.Contains(caps, ":capture:") {
				return false
			}
		}
	}
	ok, err := s.ask(filepath.Join(s.dev, node))
	// A device that is there but may not be opened is listed: it is the
	// operator who can change that.
	return ok || errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EBUSY)
}

// links maps videoN to its name in a folder below /dev/v4l.
func (s system) links(folder string) map[string]string {
	out := map[string]string{}
	dir := filepath.Join(s.dev, "v4l", folder)
	entries, _ := os.ReadDir(dir) // absent where nothing is plugged in
	for _, e := range entries {
		link := filepath.Join(dir, e.Name())
		if to, err := os.Readlink(link); err == nil {
			out[filepath.Base(to)] = link
		}
	}
	return out
}

// askNode asks a node whether it delivers pictures.
func askNode(path string) (bool, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	var c capability
	if errno := ioctl(uintptr(fd), vidiocQueryCap, unsafe.Pointer(&c)); errno != 0 {
		return false, errno
	}
	_, ok := c.queue()
	return ok && !c.inPipeline(), nil
}

// queue is the type of the node's capture queue; ok is false where it has
// none: an output, metadata, an encoder.
func (c *capability) queue() (typ uint32, ok bool) {
	caps := c.caps
	if caps&capDeviceCaps != 0 { // of this node, not of the whole device
		caps = c.deviceCaps
	}
	switch {
	case caps&capStreaming == 0 || caps&(capM2M|capM2MMplane) != 0:
		return 0, false
	case caps&capCapture != 0:
		return typeCapture, true
	case caps&capCaptureMplane != 0:
		return typeCaptureMplane, true
	}
	return 0, false
}

// inPipeline tells whether pictures come only after others were set up, as
// with the sensor and the signal processor of a Raspberry Pi. libcamera does
// that; such a node alone is no camera.
func (c *capability) inPipeline() bool {
	driver, _, _ := strings.Cut(string(c.driver[:]), "\x00")
	return c.deviceCaps&capIOMC != 0 || slices.Contains(pipelines, driver)
}

// pipelines are drivers that do not say so.
var pipelines = []string{"bcm2835-isp", "pispbe", "unicam", "rp1-cfe"}

// candidates finds the /dev/videoN that a configuration names: one, or all
// that automatic choice may take, in order.
func candidates(device string) ([]string, error) {
	if device != auto {
		path, err := filepath.EvalSymlinks(device)
		if err != nil {
			return nil, capture.Errorf(codeOf(err), "%s: %w", device, plain(err))
		}
		return []string{path}, nil
	}
	devices, err := Devices()
	if err != nil {
		return nil, capture.Errorf(capture.CodeNotFound, "%w", err)
	}
	if len(devices) == 0 {
		return nil, capture.Errorf(capture.CodeNotFound, "no capture device is plugged in")
	}
	paths := make([]string, len(devices))
	for i, d := range devices {
		paths[i] = d.Path
	}
	return paths, nil
}

// plain leaves out the path that the error before names already.
func plain(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// codeOf maps what the kernel says.
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
		if errors.Is(err, c.errno) {
			return c.code
		}
	}
	return capture.CodeProtocol
}
