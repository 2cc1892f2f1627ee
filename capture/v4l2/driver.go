//go:build cgo && linux

package v4l2

import (
	"errors"
	"fmt"
	"image"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/pion/mediadevices/pkg/driver"
	"github.com/pion/mediadevices/pkg/driver/camera"
	"github.com/pion/mediadevices/pkg/io/video"
	"github.com/pion/mediadevices/pkg/prop"
	"golang.org/x/sys/unix"

	"edged/capture"
)

// The driver reads its patience, in whole seconds, from the environment. One
// is the least it takes, and as long as a stop may wait.
const patienceVariable, patience = "PION_MEDIADEVICES_CAMERA_READ_TIMEOUT", "1"

// discovery guards the driver's list of devices, which it makes when the
// process starts and which does not learn of devices plugged in later, and
// the state of each, which it changes without a lock.
var discovery sync.Mutex

// find gets the driver of a node, looking for new devices where needed. The
// caller holds discovery.
func find(path string) (driver.Driver, error) {
	node := filepath.Base(path)
	ours := func(d driver.Driver) bool {
		_, label, _ := strings.Cut(d.Info().Label, camera.LabelSeparator)
		// One that is in use belongs to another camera of ours.
		return d.Info().DeviceType == driver.Camera && label == node && d.Status() == driver.StateClosed
	}
	for range 2 {
		if d := driver.GetManager().Query(ours); len(d) > 0 {
			return d[0], nil
		}
		camera.Initialize()
	}
	return nil, capture.Errorf(capture.CodeNotFound, "the driver does not list it")
}

// opened is a device in mediadevices' driver. That closes its descriptor as
// often as it is asked to, whoever has it by then: done keeps it to once.
type opened struct {
	driver.Driver
	recorder driver.VideoRecorder
	props    []prop.Media
	reader   video.Reader
	done     bool
}

func open(path string) (device, error) {
	// Before the driver: it would ask for a format only, and hide why not.
	if ok, err := askNode(path); err != nil {
		return nil, capture.Errorf(codeOf(err), "open: %w", err)
	} else if !ok {
		return nil, capture.Errorf(capture.CodeNotFound, "not a capture device")
	}
	if os.Getenv(patienceVariable) == "" {
		if err := os.Setenv(patienceVariable, patience); err != nil {
			return nil, fmt.Errorf("environment: %w", err)
		}
	}
	discovery.Lock()
	defer discovery.Unlock()
	d, err := find(path)
	if err != nil {
		return nil, err
	}
	recorder, ok := d.(driver.VideoRecorder)
	if !ok {
		return nil, capture.Errorf(capture.CodeNotFound, "not a capture device")
	}
	if err := d.Open(); err != nil {
		return nil, capture.Errorf(codeOf(err), "open: %w", err)
	}
	o := &opened{Driver: d, recorder: recorder}
	o.props = d.Properties()
	return o, nil
}

func (o *opened) modes() []mode {
	out := make([]mode, len(o.props))
	for i, p := range o.props {
		out[i] = mode{string(p.FrameFormat), p.Width, p.Height, float64(p.FrameRate)}
	}
	return out
}

func (o *opened) start(index int) error {
	discovery.Lock()
	defer discovery.Unlock()
	r, err := o.recorder.VideoRecord(o.props[index])
	if err != nil {
		o.done = true // it closes itself
		return capture.Errorf(codeOf(err), "start: %w", err)
	}
	o.reader = r
	return nil
}

func (o *opened) read() (image.Image, error) {
	img, _, err := o.reader.Read()
	var errno unix.Errno
	switch {
	case err == nil:
		return img, nil
	case err.Error() == "read timeout" || errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return nil, errNoPicture
	case errors.As(err, &errno):
		// Whatever it is called: a device that streamed and does no more.
		return nil, capture.Errorf(capture.CodeUnplugged, "read: %w", err)
	}
	return nil, fmt.Errorf("%w: %w", errDamaged, err)
}

func (o *opened) close() error {
	if o.done {
		return nil
	}
	o.done = true
	discovery.Lock()
	defer discovery.Unlock()
	if err := o.Driver.Close(); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
