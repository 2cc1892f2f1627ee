package v4l2

import (
	"log/slog"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// fakeNode is a driver that does what no driver of the guest can be made to
// do. It offers one format in one size.
type fakeNode struct {
	fourcc        string
	width, height uint32
	interval      fract  // as it says; 0: it has none
	mplane        int    // pieces of memory; 0: the single-planar calls
	buffers       uint32 // that it gives
	line          uint32 // bytes; 0: it does not say
	size          int    // bytes of a buffer; 0: of a whole picture
	formatted     func(f *pixFormat)
	fail          map[uintptr]error // by request
	frames        []fakeFrame       // the last for ever
	controls      map[uint32]int32

	memory   [][]byte
	queued   []bool
	deadline chan struct{}
	calls    map[uintptr]int
	mapped   int
	closed   bool
	changes  bool
}

// fakeFrame is what one dequeue gives.
type fakeFrame struct {
	err      error
	data     []byte // nil: grey
	used     int    // bytes; 0: all
	flags    uint32
	sequence uint32
	stamp    time.Duration
	index    uint32 // added to that of the buffer
	event    bool   // and the signal changes
}

func newFake(fourcc string, frames ...fakeFrame) *fakeNode {
	return &fakeNode{
		fourcc: fourcc, width: 64, height: 48, buffers: wantBuffers, interval: fract{1, 30}, frames: frames,
		deadline: make(chan struct{}), calls: map[uintptr]int{}, controls: map[uint32]int32{},
	}
}

func (n *fakeNode) ioctl(request uintptr, arg unsafe.Pointer) error {
	n.calls[request]++
	if err := n.fail[request]; err != nil {
		return err
	}
	switch request {
	case vidiocQueryCap:
		c := (*capability)(arg)
		c.caps = capCapture | capStreaming
		if n.mplane > 0 {
			c.caps = capCaptureMplane | capStreaming
		}
	case vidiocEnumFmt:
		d := (*fmtDesc)(arg)
		if d.index > 0 {
			return unix.EINVAL
		}
		d.fourcc = fourcc(n.fourcc)
	case vidiocEnumFrameSizes:
		s := (*frameSize)(arg)
		if s.index > 0 {
			return unix.EINVAL
		}
		s.typ, s.stepwise.minWidth, s.stepwise.maxWidth = discrete, n.width, n.height
	case vidiocEnumIntervals:
		v := (*frameInterval)(arg)
		if v.index > 0 || n.interval.denominator == 0 {
			return unix.EINVAL
		}
		v.typ, v.least = discrete, n.interval
	case vidiocSFmt:
		n.setFormat(arg)
	case vidiocGParm, vidiocSParm:
		p := (*streamParm)(arg)
		p.capability, p.timePerFrame = capTimePerFrame, n.interval
	case vidiocReqBufs:
		(*requestBuffers)(arg).count = n.buffers
		n.queued = make([]bool, n.buffers)
	case vidiocQueryBuf:
		b := (*buffer)(arg)
		size := n.size
		if size == 0 {
			size = int(n.width * n.height * 2)
		}
		b.m, b.length = uintptr(len(n.memory))<<12, uint32(size)
		n.memory = append(n.memory, make([]byte, size))
	case vidiocQBuf:
		n.queued[(*buffer)(arg).index] = true
	case vidiocQueryCtrl:
		q := (*queryControl)(arg)
		if _, ok := n.controls[q.id]; !ok {
			return unix.EINVAL
		}
		q.max = 255
	case vidiocSCtrl:
		c := (*control)(arg)
		if _, ok := n.controls[c.id]; !ok {
			return unix.EINVAL
		}
		n.controls[c.id] = c.value
	case vidiocDQEvent:
		if !n.changes {
			return unix.ENOENT
		}
		e := (*event)(arg)
		e.typ, e.changes = eventSourceChange, changeResolution
	case vidiocStreamOn, vidiocStreamOff, vidiocSubscribe:
	default:
		return unix.ENOTTY
	}
	return nil
}

func (n *fakeNode) setFormat(arg unsafe.Pointer) {
	f := (*pixFormat)(arg)
	f.width, f.height, f.fourcc, f.bytesPerLine = n.width, n.height, fourcc(n.fourcc), n.line
	if n.formatted != nil {
		n.formatted(f)
	}
}

// await gives the next frame.
func (n *fakeNode) await(request uintptr, arg unsafe.Pointer) error {
	select {
	case <-n.deadline:
		return errInterrupted
	default:
	}
	f := n.frames[0]
	n.changes = f.event
	if len(n.frames) > 1 {
		n.frames = n.frames[1:]
	}
	if f.err != nil {
		return f.err
	}
	b := (*buffer)(arg)
	for i := range n.queued {
		if !n.queued[i] {
			continue
		}
		n.queued[i] = false
		used := copy(n.memory[i], f.data)
		if f.data == nil {
			used = len(n.memory[i])
			for j := range n.memory[i] {
				n.memory[i][j] = 128
			}
		}
		if f.used > 0 {
			used = f.used
		}
		b.index, b.bytesUsed, b.flags, b.sequence = uint32(i)+f.index, uint32(used), f.flags|flagMonotonic, f.sequence
		b.timestamp = unix.NsecToTimeval(int64(f.stamp))
		return nil
	}
	return unix.EPIPE // nothing is queued: whoever reads has kept all
}

func (n *fakeNode) mmap(offset uintptr, _ int) ([]byte, error) {
	n.mapped++
	return n.memory[offset>>12], nil
}

func (n *fakeNode) munmap([]byte) error { n.mapped--; return nil }
func (n *fakeNode) interrupt()          { close(n.deadline) }
func (n *fakeNode) close() error        { n.closed = true; return nil }

// newSource makes a source of what a configuration says of its picture.
func newSource(video capture.VideoConfig) *Source {
	s, err := New(capture.Config{Source: "v4l2:auto", Video: video}, slog.New(slog.DiscardHandler))
	if err != nil {
		panic(err)
	}
	return s
}

// runFake runs a source on a driver, as runDevice does on a device.
func runFake(s *Source, n *fakeNode, sink capture.Sink) error {
	c := &camera{want: s.want}
	if err := c.attach(n); err != nil {
		return err
	}
	m, err := s.choose(c.offers)
	if err != nil {
		return err
	}
	in, err := startStream(n, c.typ, m)
	if err != nil {
		return err
	}
	c.stream = in
	err = s.deliver(in, sink)
	if cerr := c.Close(); err == nil {
		err = cerr
	}
	return err
}

// testConfig is a camera with a source.
func testConfig(source string) capture.Config { return capture.Config{ID: "v", Source: source} }
