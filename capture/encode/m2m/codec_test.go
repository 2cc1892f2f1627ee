package m2m

import (
	"fmt"
	"os"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// codec is a device that does what the Raspberry Pi's bcm2835-codec does, as
// its driver's source has it and as the Pi's own camera programs use it, and
// records what is asked of it.
type codec struct {
	calls []string

	caps     uint32                    // of the node
	card     string                    //
	formats  map[uint32][]uint32       // by queue
	controls map[uint32]int32          // those there are, and their values
	fail     map[string]error          // by how the call begins
	align    uint32                    // of lines in memory
	extra    uint32                    // lines that are added to a picture
	broken   func(b *buffer, p *plane) // what comes out, before it is taken

	memory    map[int64][]byte
	codedSize uint32
	free      []uint32 // queued buffers for coded pictures
	done      []coding // coded pictures to take
	rawDone   []uint32
	time      unix.Timeval // of the picture queued last
	keyframe  bool         // is due
	pictures  int
	hang      bool
	unit      []byte // scratch
	closed    bool
	mapped    int
}

// coding is a coded picture.
type coding struct {
	buffer
	plane
}

const codedOffset = 1 << 20 // of the mapped buffers for coded pictures, and between two

func newCodec() *codec {
	return &codec{
		caps: capM2MPlanar | 0x4000000, card: "bcm2835-codec-encode", align: 64,
		formats: map[uint32][]uint32{
			typeCapturePlanar: {formatH264}, typeOutputPlanar: {formatI420, formatNV12},
			typeCapture: {formatH264}, typeOutput: {formatNV12},
		},
		controls: map[uint32]int32{bitrateTarget: 10_000_000, h264Profile: 4, h264Level: 11, repeatHeaders: 0, iPeriod: 60, forceKeyframe: 0},
		fail:     map[string]error{},
		memory:   map[int64][]byte{},
	}
}

// record notes a call and says how it ends.
func (c *codec) record(format string, a ...any) error {
	call := fmt.Sprintf(format, a...)
	c.calls = append(c.calls, call)
	for prefix, err := range c.fail {
		if strings.HasPrefix(call, prefix) {
			return err
		}
	}
	return nil
}

var queueName = map[uint32]string{typeCapture: "capture", typeCapturePlanar: "capture", typeOutput: "output", typeOutputPlanar: "output"}

func (c *codec) ioctl(request uint32, arg unsafe.Pointer) error {
	switch request {
	case querycap:
		q := (*capability)(arg)
		q.caps, q.deviceCaps = 0x84000000|capM2MPlanar, c.caps
		copy(q.driver[:], "bcm2835-codec")
		copy(q.card[:], c.card)
		return c.record("QUERYCAP")
	case enumFormat:
		d := (*formatDescription)(arg)
		if int(d.index) >= len(c.formats[d.typ]) {
			return unix.EINVAL
		}
		d.format = c.formats[d.typ][d.index]
		return nil
	case queryCtrl:
		if _, ok := c.controls[(*queryControl)(arg).id]; !ok {
			return unix.EINVAL
		}
		return nil
	case setControl:
		return c.setControl((*control)(arg))
	case setFormat:
		return c.setFormat((*format)(arg))
	case setSelect:
		s := (*selection)(arg)
		return c.record("S_SELECTION crop %d × %d", s.width, s.height)
	case setParm:
		p := (*streamParameters)(arg)
		return c.record("S_PARM %d/%d", p.numerator, p.denominator)
	case reqbufs:
		r := (*requestBuffers)(arg)
		return c.record("REQBUFS %s %d", queueName[r.typ], r.count)
	case querybuf:
		return c.queryBuffer((*buffer)(arg))
	case streamOn:
		return c.record("STREAMON %s", queueName[*(*uint32)(arg)])
	case streamOff:
		return c.record("STREAMOFF %s", queueName[*(*uint32)(arg)])
	case qbuf:
		return c.queue((*buffer)(arg))
	case dqbuf:
		return c.dequeue((*buffer)(arg))
	case encoderCmd:
		if err := c.record("ENCODER_CMD %d", (*command)(arg).cmd); err != nil {
			return err
		}
		c.finish(nil, flagLast)
		return nil
	}
	return c.record("ioctl 0x%x", request)
}

func (c *codec) setControl(ctl *control) error {
	if _, ok := c.controls[ctl.id]; !ok {
		return unix.EINVAL
	}
	if err := c.record("S_CTRL 0x%x = %d", ctl.id, ctl.value); err != nil {
		return err
	}
	c.controls[ctl.id] = ctl.value
	c.keyframe = c.keyframe || ctl.id == forceKeyframe
	return nil
}

func (c *codec) planar() bool { return c.caps&capM2MPlanar != 0 }

func (c *codec) setFormat(f *format) error {
	raw := f.typ == typeOutput || f.typ == typeOutputPlanar
	p, s := (*multi)(unsafe.Pointer(&f.pix)), (*single)(unsafe.Pointer(&f.pix))
	w, h, kind, size := p.width, p.height, p.format, p.plane[0].size
	if !c.planar() {
		size = s.size
	}
	if err := c.record("S_FMT %s %s %d × %d", queueName[f.typ], fourCC(kind), w, h); err != nil {
		return err
	}
	stride := (w + c.align - 1) / c.align * c.align
	if raw {
		h += c.extra
		size = stride * h * 3 / 2
	} else {
		stride, c.codedSize = 0, size
	}
	if c.planar() {
		p.height, p.plane[0].stride, p.plane[0].size = h, stride, size
	} else {
		s.height, s.stride, s.size = h, stride, size
	}
	if raw {
		c.memory[0] = make([]byte, size)
	}
	return nil
}

func (c *codec) planeOf(b *buffer) *plane {
	return *(**plane)(unsafe.Pointer(&b.m))
}

func (c *codec) queryBuffer(b *buffer) error {
	var offset int64
	if b.typ == typeCapture || b.typ == typeCapturePlanar {
		offset = int64(b.index+1) * codedOffset
		c.memory[offset] = make([]byte, c.codedSize)
	}
	if c.planar() {
		p := c.planeOf(b)
		p.m, p.length = uintptr(offset), uint32(len(c.memory[offset]))
	} else {
		b.m, b.length = uintptr(offset), uint32(len(c.memory[offset]))
	}
	return c.record("QUERYBUF %s %d", queueName[b.typ], b.index)
}

func (c *codec) mmap(offset int64, length int) ([]byte, error) {
	if len(c.memory[offset]) != length {
		return nil, unix.EINVAL
	}
	c.mapped++
	return c.memory[offset], nil
}

func (c *codec) munmap([]byte) error { c.mapped--; return nil }
func (c *codec) close() error        { c.closed = true; return nil }

func (c *codec) wait(events int16, _ time.Duration) error {
	if events == unix.POLLIN && len(c.done) > 0 || events == unix.POLLOUT && len(c.rawDone) > 0 {
		return nil
	}
	return os.ErrDeadlineExceeded // at once: nothing would come
}

func (c *codec) queue(b *buffer) error {
	if b.typ == typeCapture || b.typ == typeCapturePlanar {
		c.free = append(c.free, b.index)
		return c.fail["QBUF capture"]
	}
	if err := c.fail["QBUF output"]; err != nil {
		return err
	}
	c.time = b.timestamp
	c.rawDone = append(c.rawDone, b.index)
	if c.hang {
		return nil
	}
	c.unit = c.unit[:0]
	if c.pictures == 0 || c.keyframe {
		c.unit = append(c.unit, 0, 0, 0, 1, 0x67, 0x42, 0x40, 0x0a, 0xd9, 0x1e, 0x84, 0, 0, 0, 1, 0x68, 0xce, 0x3c, 0x80, 0, 0, 0, 1, 0x65, 0x88)
	} else {
		c.unit = append(c.unit, 0, 0, 0, 1, 0x41, 0x9a)
	}
	c.finish(append(c.unit, byte(c.pictures+1)), 0)
	c.keyframe = false
	c.pictures++
	return nil
}

// finish puts a coded picture into a free buffer.
func (c *codec) finish(data []byte, flags uint32) {
	index := c.free[0]
	c.free = append(c.free[:0], c.free[1:]...)
	copy(c.memory[int64(index+1)*codedOffset], data)
	d := coding{buffer{index: index, flags: flags, used: uint32(len(data)), timestamp: c.time}, plane{used: uint32(len(data))}}
	if c.broken != nil {
		broken := d
		c.broken(&broken.buffer, &broken.plane)
		d = broken
	}
	c.done = append(c.done, d)
}

func (c *codec) dequeue(b *buffer) error {
	if b.typ == typeOutput || b.typ == typeOutputPlanar {
		if len(c.rawDone) == 0 {
			return unix.EAGAIN
		}
		c.rawDone = c.rawDone[:0]
		return nil
	}
	if err := c.fail["DQBUF capture"]; err != nil {
		return err
	}
	if len(c.done) == 0 {
		return unix.EAGAIN
	}
	d := c.done[0]
	c.done = append(c.done[:0], c.done[1:]...)
	if c.planar() {
		*c.planeOf(b) = d.plane
	} else {
		b.used = d.plane.used
	}
	b.index, b.flags, b.timestamp = d.index, d.flags, d.timestamp
	return nil
}
