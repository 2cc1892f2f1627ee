package mic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// system is where the kernel tells of devices.
type system struct{ sys, dev string }

var kernel = system{sys: "/sys/class", dev: "/dev"}

// find gives the node of a microphone; video is the path of the camera's, or
// "auto" for the first camera that has one.
func (s system) find(name, video string) (node string, err error) {
	if name == capture.MicrophoneAuto {
		return s.own(video)
	}
	wanted, device, err := capture.ParseMicrophone(name)
	if err != nil {
		return "", err
	}
	for _, card := range s.cards() {
		id, _ := os.ReadFile(filepath.Join(s.sys, "sound", card, "id"))
		if wanted == strings.TrimSpace(string(id)) || "card"+wanted == card {
			return s.node(fmt.Sprintf("pcmC%sD%sc", strings.TrimPrefix(card, "card"), device))
		}
	}
	return "", capture.Errorf(capture.CodeNotFound, "no sound card %s", wanted)
}

// node is the path of a device, if the kernel has it.
func (s system) node(name string) (string, error) {
	if _, err := os.Stat(filepath.Join(s.sys, "sound", name)); err != nil {
		return "", capture.Errorf(capture.CodeNotFound, "the sound card has no microphone %s", name)
	}
	return filepath.Join(s.dev, "snd", name), nil
}

// cards lists card0, card1 …
func (s system) cards() []string { return s.list("sound", "card") }

func (s system) list(class, prefix string) []string {
	entries, _ := os.ReadDir(filepath.Join(s.sys, class)) // absent where there are none
	var out []string
	for _, e := range entries {
		if n, ok := strings.CutPrefix(e.Name(), prefix); ok && isNumber(n) {
			out = append(out, e.Name())
		}
	}
	number := func(name string) int { n, _ := strconv.Atoi(strings.TrimPrefix(name, prefix)); return n }
	slices.SortFunc(out, func(a, b string) int { return number(a) - number(b) })
	return out
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// own finds the first microphone of the USB device that the camera is.
func (s system) own(video string) (node string, err error) {
	nodes := s.list("video4linux", "video")
	if video != "auto" {
		path, err := filepath.EvalSymlinks(video)
		if err != nil {
			return "", capture.Errorf(capture.CodeNotFound, "the camera is not there")
		}
		nodes = []string{filepath.Base(path)}
	}
	for _, v := range nodes {
		camera := s.usb("video4linux", v)
		for _, card := range s.cards() {
			if camera == "" || s.usb("sound", card) != camera {
				continue
			}
			number := strings.TrimPrefix(card, "card")
			for device := range 32 {
				if node, err := s.node(fmt.Sprintf("pcmC%sD%dc", number, device)); err == nil {
					return node, nil
				}
			}
		}
	}
	return "", capture.Errorf(capture.CodeNotFound, "the camera has no microphone of its own: audio.device names another")
}

// usb is the folder of the USB device that a device is part of: the one above
// its interface. It is empty where that is none.
func (s system) usb(class, name string) string {
	dir, err := filepath.EvalSymlinks(filepath.Join(s.sys, class, name, "device"))
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "bInterfaceNumber")); err != nil {
		return ""
	}
	return filepath.Dir(dir)
}

// codeOf maps what the kernel says.
func codeOf(err error) capture.Code {
	switch {
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EAGAIN):
		return capture.CodeBusy
	case errors.Is(err, fs.ErrPermission):
		return capture.CodeDenied
	case errors.Is(err, fs.ErrNotExist):
		return capture.CodeNotFound
	case errors.Is(err, errMode):
		return capture.CodeCodec
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO), errors.Is(err, unix.EIO), errors.Is(err, unix.EBADFD):
		return capture.CodeUnplugged
	}
	return capture.CodeProtocol
}
