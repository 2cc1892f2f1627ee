// Package m2m encodes video with the encoder of the box's chip, by the
// kernel's interface for stateful memory-to-memory encoders (Linux's
// Documentation/userspace-api/media/v4l/dev-encoder.rst): the Raspberry Pi's
// up to the Pi 4, and whatever else does it the same way.
package m2m

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// Config is what to encode. The sizes are even.
type Config struct {
	Width, Height    int // pixels
	FPS              int // frames a second
	Bitrate          int // bits/s
	KeyframeInterval int // pictures from one keyframe to the next
}

const (
	patience = 2 * time.Second        // for one picture
	drainIn  = 500 * time.Millisecond // what a stream is given to end

	coded       = 4         // buffers that coded pictures are written to
	leastCoded  = 512 << 10 // bytes of one: a keyframe in full detail
	firstMoment = time.Second
)

// Encoder encodes pictures one after the other, each before the next.
type Encoder struct {
	name string
	cfg  Config
	want uint32 // the coded format
	node node

	planar          bool
	format          uint32        // of the pictures: formatI420 or formatNV12
	stride, lines   int           // of their luma
	raw             [][]byte      // buffers for pictures, of which the first is used
	coded           [][]byte      // for coded ones
	start           time.Time     // of the first picture
	last            time.Duration // time of the last, from firstMoment on
	rawQueued       bool
	failed          bool
	rawBuf, codeBuf buffer // scratch, as are their planes
	rawPl, codePl   plane
	out             []byte

	mu     sync.Mutex // guards closed, and the node against its being closed under a setter
	closed bool
}

// Open finds the encoder of the box that can make H.264 of cfg and make a
// keyframe when asked, and opens it. The error has [capture.CodeNotFound]
// where there is none, [capture.CodeBusy] where others use it, and
// [capture.CodeDenied] or [capture.CodeEncoder].
func Open(cfg Config) (*Encoder, error) {
	paths, err := nodes()
	if err != nil {
		return nil, capture.Errorf(capture.CodeEncoder, "video devices: %w", err)
	}
	return first(paths, openNode, cfg, formatH264)
}

// first opens the first of the devices that can. Of what keeps the others
// from it, being no encoder at all says the least.
func first(paths []string, open func(string) (node, error), cfg Config, want uint32) (*Encoder, error) {
	var reason error
	for _, path := range paths {
		n, err := open(path)
		if err != nil {
			if reason == nil && errors.Is(err, fs.ErrPermission) {
				reason = capture.Errorf(capture.CodeDenied, "%s: %w", path, err)
			}
			continue // unplugged just now, or a camera in use
		}
		e := &Encoder{cfg: cfg, want: want, node: n}
		err = e.identify()
		if err == nil {
			if err = e.setUp(); err == nil {
				return e, nil
			}
			err = fmt.Errorf("%s (%s): %w", e.name, path, err)
		}
		e.release()
		if capture.CodeOf(err) != capture.CodeNotFound {
			reason = err
		}
	}
	if reason == nil {
		reason = capture.Errorf(capture.CodeNotFound, "no hardware encoder")
	}
	return nil, reason
}

// Available tells whether the box has an encoder of H.264 that Open would look
// at, in use or not.
func Available() bool {
	paths, err := nodes()
	return err == nil && available(paths, openNode)
}

func available(paths []string, open func(string) (node, error)) bool {
	for _, path := range paths {
		n, err := open(path)
		if err != nil {
			continue
		}
		e := &Encoder{want: formatH264, node: n}
		err = e.identify()
		if errors.Join(err, e.release()) == nil {
			return true
		}
	}
	return false
}

// Name is what the driver calls the encoder.
func (e *Encoder) Name() string { return e.name }

// fault gives an error of the kernel its code and says of what.
func fault(err error, what string, a ...any) error {
	code := capture.CodeEncoder
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.EAGAIN) {
		code = capture.CodeBusy // the Pi's firmware runs out of memory where other encoders run
	}
	return capture.Errorf(code, what+": %w", append(a, err)...)
}

var errOther = &capture.Error{Code: capture.CodeNotFound, Err: errors.New("no such encoder")}

// identify asks whether the device is an encoder of what is wanted.
func (e *Encoder) identify() error {
	var c capability
	if err := e.node.ioctl(querycap, unsafe.Pointer(&c)); err != nil {
		return errOther
	}
	caps := c.caps
	if caps&capDeviceCaps != 0 { // of this node, not of the whole device
		caps = c.deviceCaps
	}
	e.planar = caps&capM2MPlanar != 0
	if caps&(capM2M|capM2MPlanar) == 0 || !e.offers(e.types()[0], e.want) {
		return errOther
	}
	for _, f := range []uint32{formatI420, formatNV12} {
		if e.offers(e.types()[1], f) {
			e.format = f
			break
		}
	}
	e.name = text(c.card[:])
	if e.name == "" {
		e.name = text(c.driver[:])
	}
	if e.format == 0 {
		return errOther
	}
	if e.want != formatH264 {
		return nil
	}
	for _, id := range []uint32{forceKeyframe, bitrateTarget} {
		if err := e.node.ioctl(queryCtrl, unsafe.Pointer(&queryControl{id: id})); err != nil {
			return capture.Errorf(capture.CodeEncoder, "%s: no control 0x%x: %w", e.name, id, err)
		}
	}
	return nil
}

func text(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

// types are the two queues: that of coded pictures, that of raw ones.
func (e *Encoder) types() [2]uint32 {
	if e.planar {
		return [2]uint32{typeCapturePlanar, typeOutputPlanar}
	}
	return [2]uint32{typeCapture, typeOutput}
}

func (e *Encoder) offers(typ, format uint32) bool {
	for i := range uint32(256) {
		d := formatDescription{index: i, typ: typ}
		if err := e.node.ioctl(enumFormat, unsafe.Pointer(&d)); err != nil {
			return false
		}
		if d.format == format {
			return true
		}
	}
	return false
}

// setUp brings an identified device to where pictures can be queued.
func (e *Encoder) setUp() error {
	if err := e.setControls(); err != nil {
		return err
	}
	if err := e.setFormats(); err != nil {
		return err
	}
	types := e.types()
	var err error
	if e.raw, err = e.buffers(types[1], 1); err != nil {
		return err
	}
	if e.coded, err = e.buffers(types[0], coded); err != nil {
		return err
	}
	if need := e.stride * e.lines * 3 / 2; len(e.raw[0]) < need {
		return capture.Errorf(capture.CodeEncoder, "a buffer of %d bytes for a picture of %d", len(e.raw[0]), need)
	}
	for i := range e.coded {
		if err := e.giveBack(uint32(i)); err != nil {
			return err
		}
	}
	for _, typ := range []uint32{types[1], types[0]} {
		if err := e.node.ioctl(streamOn, unsafe.Pointer(&typ)); err != nil {
			return fault(err, "start")
		}
	}
	return nil
}

// setControls sets what holds for the whole stream. An encoder may lack what
// only makes it better.
func (e *Encoder) setControls() error {
	if e.want == formatH264 {
		if err := e.control(bitrateTarget, e.cfg.Bitrate); err != nil {
			return fault(err, "bitrate")
		}
		// What all browsers decode, and say so.
		if err := e.control(h264Profile, constrainedBaseline); err != nil {
			return fault(err, "constrained baseline profile")
		}
		_ = e.control(h264Level, level(e.cfg))
		// Without it the keyframes after the first one come bare, and are
		// completed by who packs them.
		_ = e.control(repeatHeaders, 1)
	}
	if e.control(iPeriod, e.cfg.KeyframeInterval) != nil { // which to the Pi means the same
		_ = e.control(gopSize, e.cfg.KeyframeInterval)
	}
	return nil
}

func (e *Encoder) control(id uint32, value int) error {
	return e.node.ioctl(setControl, unsafe.Pointer(&control{id, int32(value)}))
}

// level is the menu entry of the least H.264 level for the pictures (ITU-T
// H.264, table A-1), from 3.1 on.
func level(c Config) int {
	blocks := (c.Width + 15) / 16 * ((c.Height + 15) / 16)
	for _, l := range []struct{ entry, blocks, aSecond int }{
		{9, 3600, 108_000},   // 3.1
		{10, 5120, 216_000},  // 3.2
		{11, 8192, 245_760},  // 4
		{13, 8704, 522_240},  // 4.2
		{14, 22080, 589_824}, // 5
	} {
		if blocks <= l.blocks && blocks*c.FPS <= l.aSecond {
			return l.entry
		}
	}
	return 15 // 5.1
}

// setFormats sets the coded format, then that of the pictures: the other way
// round an encoder may reset the first.
func (e *Encoder) setFormats() error {
	types := e.types()
	if _, got, err := e.setFormat(types[0], e.want, max(leastCoded, e.cfg.Width*e.cfg.Height/2)); err != nil {
		return fault(err, "coded format")
	} else if got != e.want {
		return capture.Errorf(capture.CodeEncoder, "the coded format became %q", fourCC(got))
	}
	width, got, err := e.setFormat(types[1], e.format, 0)
	if err != nil {
		return fault(err, "format")
	}
	if got != e.format || e.stride < e.cfg.Width || e.stride%2 != 0 || e.lines < e.cfg.Height || max(e.stride, e.lines) > 1<<14 {
		return capture.Errorf(capture.CodeEncoder, "%d × %d cannot be encoded: the format became %q, %d × %d", e.cfg.Width, e.cfg.Height, fourCC(got), e.stride, e.lines)
	}
	// What is beyond the picture, where the encoder wants whole blocks, is
	// not to be seen.
	s := selection{typ: typeOutput, target: targetCrop, width: uint32(e.cfg.Width), height: uint32(e.cfg.Height)}
	if e.node.ioctl(setSelect, unsafe.Pointer(&s)) != nil {
		s.width, s.height = uint32(width), uint32(e.lines)
	}
	if int(s.width) != e.cfg.Width || int(s.height) != e.cfg.Height {
		return capture.Errorf(capture.CodeEncoder, "%d × %d cannot be encoded: it would become %d × %d", e.cfg.Width, e.cfg.Height, s.width, s.height)
	}
	_ = e.node.ioctl(setParm, unsafe.Pointer(&streamParameters{typ: types[1], numerator: 1, denominator: uint32(e.cfg.FPS)}))
	return nil
}

func fourCC(f uint32) string {
	return string([]byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)})
}

// setFormat returns what the driver made of it, and leaves in e how it lies in
// memory.
func (e *Encoder) setFormat(typ, want uint32, size int) (width int, got uint32, err error) {
	f := format{typ: typ}
	w, h := uint32(e.cfg.Width), uint32(e.cfg.Height)
	if !e.planar {
		p := (*single)(unsafe.Pointer(&f.pix))
		*p = single{width: w, height: h, format: want, field: fieldNone, size: uint32(size), colorspace: rec709}
		err = e.node.ioctl(setFormat, unsafe.Pointer(&f))
		e.stride, e.lines = int(p.stride), int(p.height)
		return int(p.width), p.format, err
	}
	p := (*multi)(unsafe.Pointer(&f.pix))
	*p = multi{width: w, height: h, format: want, field: fieldNone, colorspace: rec709, planes: 1}
	p.plane[0].size = uint32(size)
	err = e.node.ioctl(setFormat, unsafe.Pointer(&f))
	e.stride, e.lines = int(p.plane[0].stride), int(p.height)
	return int(p.width), p.format, err
}

// buffers has a queue's buffers made and maps them.
func (e *Encoder) buffers(typ uint32, n int) ([][]byte, error) {
	r := requestBuffers{count: uint32(n), typ: typ, memory: memoryMmap}
	if err := e.node.ioctl(reqbufs, unsafe.Pointer(&r)); err != nil {
		return nil, fault(err, "buffers")
	}
	if r.count == 0 || r.count > 32 {
		return nil, capture.Errorf(capture.CodeEncoder, "%d buffers", r.count)
	}
	var all [][]byte
	for i := range r.count {
		b, p := e.header(typ, i), &plane{}
		e.attach(b, p)
		if err := e.node.ioctl(querybuf, unsafe.Pointer(b)); err != nil {
			return all, fault(err, "buffer")
		}
		offset, length := uint32(b.m), b.length
		if e.planar {
			offset, length = uint32(p.m), p.length
		}
		mapped, err := e.node.mmap(int64(offset), int(length))
		runtime.KeepAlive(p)
		if err != nil {
			return all, fault(err, "map a buffer")
		}
		all = append(all, mapped)
	}
	return all, nil
}

func (e *Encoder) header(typ, index uint32) *buffer {
	return &buffer{index: index, typ: typ, memory: memoryMmap, field: fieldNone}
}

// attach hangs the one plane into a buffer of a device that wants planes. Both
// are on the heap, where nothing moves, and outlive the call.
func (e *Encoder) attach(b *buffer, p *plane) {
	if e.planar {
		b.m, b.length = uintptr(unsafe.Pointer(p)), 1
	}
}
