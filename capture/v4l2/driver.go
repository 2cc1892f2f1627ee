package v4l2

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/pion/mediadevices/pkg/driver"
	"github.com/pion/mediadevices/pkg/frame"
	"github.com/pion/mediadevices/pkg/io/video"
	"github.com/pion/mediadevices/pkg/prop"

	"edged/capture"
)

// label marks our drivers among those that mediadevices' manager lists.
const label = "edged "

// registered guards the manager's drivers of ours: mediadevices changes the
// state of each without a lock.
var registered sync.Mutex

// camera is one device node as mediadevices' manager has it: opened, asked
// for its modes, recorded from and closed through it.
type camera struct {
	path string
	want mode // for drivers that take any size

	node   node
	typ    uint32 // of its queue
	offers []mode
	stream *stream
}

var (
	_ driver.Adapter       = (*camera)(nil)
	_ driver.VideoRecorder = (*camera)(nil)
)

// Open opens the node and asks what it offers.
func (c *camera) Open() error {
	n, err := openNode(c.path)
	if err != nil {
		return capture.Errorf(codeOf(err), "open: %w", err)
	}
	if err := c.attach(n); err != nil {
		return errors.Join(err, n.close())
	}
	return nil
}

// attach asks an open node what it offers.
func (c *camera) attach(n node) error {
	var about capability
	if err := n.ioctl(vidiocQueryCap, unsafe.Pointer(&about)); err != nil {
		return capture.Errorf(codeOf(err), "open: %w", err)
	}
	typ, ok := about.queue()
	if !ok {
		return capture.Errorf(capture.CodeNotFound, "not a capture device")
	}
	c.node, c.typ, c.offers = n, typ, modesOf(n, typ, c.want)
	return nil
}

// Close stops and closes it.
func (c *camera) Close() error {
	if c.node == nil {
		return nil
	}
	var err error
	if c.stream != nil {
		err = c.stream.release()
	}
	err = errors.Join(err, c.node.close())
	c.node, c.stream, c.offers = nil, nil, nil
	return err
}

// Properties lists the modes as mediadevices describes them.
func (c *camera) Properties() []prop.Media {
	out := make([]prop.Media, len(c.offers))
	for i, m := range c.offers {
		out[i].Video = prop.Video{Width: m.width, Height: m.height, FrameFormat: frame.Format(m.format.name), FrameRate: float32(m.fps)}
	}
	return out
}

// VideoRecord starts the mode that p describes. The reader is a [*stream].
func (c *camera) VideoRecord(p prop.Media) (video.Reader, error) {
	for _, m := range c.offers {
		if m.width != p.Width || m.height != p.Height || m.format.name != string(p.FrameFormat) || float32(m.fps) != p.FrameRate {
			continue
		}
		s, err := startStream(c.node, c.typ, m)
		if err != nil {
			return nil, err
		}
		c.stream = s
		return s, nil
	}
	return nil, capture.Errorf(capture.CodeCodec, "no such mode")
}

// opened is a device that was opened through mediadevices.
type opened struct {
	driver.Driver
	recorder driver.VideoRecorder
	camera   *camera
}

// open registers a node with mediadevices and opens it there. want is what
// will be asked of it.
func open(path string, want mode) (*opened, error) {
	c := &camera{path: path, want: want}
	registered.Lock()
	defer registered.Unlock()
	manager := driver.GetManager()
	ours := func(d driver.Driver) bool { return d.Info().Label == label+path }
	if len(manager.Query(ours)) > 0 {
		return nil, capture.Errorf(capture.CodeBusy, "another camera of this box uses it")
	}
	if err := manager.Register(c, driver.Info{Label: label + path, Name: path, DeviceType: driver.Camera}); err != nil {
		return nil, err
	}
	d := manager.Query(ours)[0]
	recorder, ok := d.(driver.VideoRecorder)
	if !ok {
		return nil, errors.New("mediadevices does not record from it")
	}
	if err := d.Open(); err != nil {
		manager.Delete(d.ID())
		return nil, err
	}
	return &opened{Driver: d, recorder: recorder, camera: c}, nil
}

// start starts one of the modes that the device offers.
func (o *opened) start(m mode) (*stream, error) {
	registered.Lock()
	defer registered.Unlock()
	r, err := o.recorder.VideoRecord(prop.Media{Video: prop.Video{
		Width: m.width, Height: m.height, FrameFormat: frame.Format(m.format.name), FrameRate: float32(m.fps),
	}})
	if err != nil {
		return nil, err
	}
	return r.(*stream), nil
}

// close closes the device, which may be used by others then.
func (o *opened) close() error {
	registered.Lock()
	defer registered.Unlock()
	driver.GetManager().Delete(o.ID())
	err := o.Driver.Close() // for the second time where start failed, which does nothing
	if err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}
