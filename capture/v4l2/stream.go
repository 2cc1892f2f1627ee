package v4l2

import (
	"errors"
	"fmt"
	"image"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
	"edged/capture/jpeg"
)

// How many buffers a driver fills in turn: one is read, one is filled, the
// rest wait for a machine that is late. Some drivers give fewer.
const (
	wantBuffers = 4
	leastBuffer = 2
	mostBuffers = 32
)

// Frame is a picture as the camera delivered it. It is what the driver's
// reader returns as image, and valid until its next read.
type Frame struct {
	image.YCbCr           // 4:2:0, of even size; empty where Unit is not
	Unit        []byte    // what the camera encoded: an access unit as a byte stream (annex B)
	Captured    time.Time // when the scene was seen
	Lost        int       // pictures that did not come, since the last one that could be read
}

// stream is a device that delivers. One goroutine reads; interrupt and
// unplugged may be called by any.
type stream struct {
	node    node
	typ     uint32
	picture picture
	signal  signal
	memory  [][][]byte  // by buffer and piece
	gone    atomic.Bool // somebody saw it unplugged

	// Of the picture that is read; kept, so that a picture allocates nothing.
	buf     buffer
	planes  [maxPlanes]plane
	pinned  runtime.Pinner // planes, whose address the kernel is given as a number
	pieces  [][]byte
	event   event
	clock   clock
	counted bool          // next is known
	next    uint32        // sequence number
	missed  int           // pictures, since the last one that could be read
	out     *image.YCbCr  // 4:2:0 of even size, of raw pictures
	jpeg    *jpeg.Decoder // of MJPEG
	frame   Frame
}

// startStream agrees on a mode with the device and starts it. On an error,
// which has a code, nothing is left but the open node.
func startStream(n node, typ uint32, m mode) (_ *stream, err error) {
	s := &stream{node: n, typ: typ}
	defer func() {
		if _, ok := errors.AsType[*capture.Error](err); err != nil && !ok {
			err = capture.Errorf(codeOf(err), "%w", err)
		}
	}()
	if s.signal, err = lockSignal(n); err != nil {
		return nil, err
	}
	if s.picture, err = setFormat(n, typ, m); err != nil {
		return nil, err
	}
	s.picture.fps = setRate(n, typ, m.fps)
	switch f := s.picture.format; {
	case f.jpeg:
		if s.jpeg, err = jpeg.New(s.picture.width, s.picture.height); err != nil {
			return nil, capture.Errorf(capture.CodeCodec, "%w", err)
		}
	case f.codec == "":
		s.out = newOut(s.picture.width, s.picture.height)
	}
	s.pinned.Pin(&s.planes[0])
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := s.allocate(); err != nil {
		return nil, err
	}
	for i := range s.memory {
		if err := s.enqueue(uint32(i)); err != nil {
			return nil, fmt.Errorf("buffer %d: %w", i, err)
		}
	}
	if err := n.ioctl(vidiocStreamOn, unsafe.Pointer(&s.typ)); err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return s, nil
}

// newOut makes the memory for pictures of width × height as they are encoded.
func newOut(width, height int) *image.YCbCr {
	return image.NewYCbCr(image.Rect(0, 0, width&^1, height&^1), image.YCbCrSubsampleRatio420)
}

// allocate asks for buffers and maps them.
func (s *stream) allocate() error {
	r := requestBuffers{count: wantBuffers, typ: s.typ, memory: memoryMMAP}
	if err := s.node.ioctl(vidiocReqBufs, unsafe.Pointer(&r)); err != nil {
		return fmt.Errorf("buffers: %w", err)
	}
	if r.count < leastBuffer || r.count > mostBuffers {
		return capture.Errorf(capture.CodeProtocol, "%d buffers", r.count)
	}
	for i := range r.count {
		s.describe(i)
		if err := s.node.ioctl(vidiocQueryBuf, unsafe.Pointer(&s.buf)); err != nil {
			return fmt.Errorf("buffer %d: %w", i, err)
		}
		var pieces [][]byte
		s.memory = append(s.memory, nil)
		for p := range s.count() {
			offset, length := s.buf.m, s.buf.length
			if s.typ == typeCaptureMplane {
				offset, length = s.planes[p].m, s.planes[p].length
			}
			// An offset is of 32 bits, whatever the union's other half holds.
			b, err := s.node.mmap(offset&0xffffffff, int(length))
			if err != nil {
				return fmt.Errorf("map buffer %d: %w", i, err)
			}
			pieces = append(pieces, b)
			s.memory[i] = pieces
		}
	}
	s.pieces = make([][]byte, s.count())
	return nil
}

// count is the number of pieces of memory that a buffer has.
func (s *stream) count() int { return len(s.picture.strides) }

// describe fills in what each request about a buffer begins with.
func (s *stream) describe(index uint32) {
	s.buf = buffer{index: index, typ: s.typ, memory: memoryMMAP}
	if s.typ == typeCaptureMplane {
		clear(s.planes[:])
		s.buf.m, s.buf.length = uintptr(unsafe.Pointer(&s.planes[0])), uint32(s.count())
	}
}

func (s *stream) enqueue(index uint32) error {
	s.describe(index)
	return s.node.ioctl(vidiocQBuf, unsafe.Pointer(&s.buf))
}

// Read waits for a picture, as mediadevices' readers do; the image is a
// [*Frame]. An error that is errDamaged is followed by other pictures; after
// interrupt it is errInterrupted; all others end the stream.
func (s *stream) Read() (image.Image, func(), error) {
	if err := s.read(); err != nil {
		return nil, nil, err
	}
	return &s.frame, nothing, nil
}

// nothing is what is to be done for a frame that is no longer needed.
func nothing() {}

// read takes one buffer, reads it whole, and only then gives it back: the
// driver may fill it at once.
func (s *stream) read() error {
	s.describe(0)
	err := s.node.await(vidiocDQBuf, unsafe.Pointer(&s.buf))
	switch {
	case s.gone.Load():
		return capture.Errorf(capture.CodeUnplugged, "unplugged")
	case errors.Is(err, errInterrupted):
		return err
	case err != nil:
		// Whatever it is called: a device that streamed and does no more.
		return capture.Errorf(capture.CodeUnplugged, "read: %w", err)
	}
	index := s.buf.index
	if index >= uint32(len(s.memory)) {
		return capture.Errorf(capture.CodeProtocol, "buffer %d of %d", index, len(s.memory))
	}
	now, monotonic := s.clock.read()
	s.frame.Captured = s.clock.captured(s.buf.flags, s.buf.timestamp, now, monotonic)
	s.missed += s.gap(s.buf.sequence)
	damage := s.unpack(index)
	if s.frame.Lost = s.missed; damage == nil {
		s.missed = 0
	}
	if err := s.enqueue(index); err != nil {
		return capture.Errorf(capture.CodeUnplugged, "give a buffer back: %w", err)
	}
	if s.signal.told && s.signal.changed(s.node, &s.event) {
		return capture.Errorf(capture.CodeProtocol, "the signal has another size now")
	}
	return damage
}

// maxGap is the most pictures that can be missing between two: a counter that
// jumps further was set anew.
const maxGap = 1000

// gap is how many pictures are missing before one with this number. A driver
// that does not count, or counts backwards, says nothing.
func (s *stream) gap(sequence uint32) int {
	missing := int32(sequence - s.next)
	if !s.counted || missing < 0 || missing > maxGap {
		missing = 0
	}
	s.counted, s.next = true, sequence+1
	return int(missing)
}

// unpack reads the picture of a buffer into the frame.
func (s *stream) unpack(index uint32) error {
	if s.buf.flags&flagError != 0 {
		return fmt.Errorf("%w: by the driver's word", errDamaged)
	}
	for p, b := range s.memory[index] {
		from, to := 0, int(s.buf.bytesUsed)
		if s.typ == typeCaptureMplane {
			from, to = int(s.planes[p].dataOffset), int(s.planes[p].bytesUsed)
		}
		if from < 0 || to > len(b) || from >= to {
			return fmt.Errorf("%w: bytes %d to %d of %d", errDamaged, from, to, len(b))
		}
		s.pieces[p] = b[from:to]
	}
	f := s.picture.format
	switch {
	case f.codec != "":
		s.frame.Unit = append(s.frame.Unit[:0], s.pieces[0]...)
	case f.jpeg:
		img, err := s.jpeg.Decode(s.pieces[0])
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		s.frame.YCbCr = *img
	default:
		src, err := f.locate(s.pieces, s.picture.strides, s.picture.width, s.picture.height)
		if err != nil {
			return fmt.Errorf("%w: %w", errDamaged, err)
		}
		f.unpack(s.out, src)
		s.frame.YCbCr = *s.out
	}
	return nil
}

// interrupt ends a wait for a picture and all later ones.
func (s *stream) interrupt() { s.node.interrupt() }

// unplugged ends the stream, because somebody saw the device go.
func (s *stream) unplugged() {
	s.gone.Store(true)
	s.node.interrupt()
}

// release stops the device and gives all memory back.
func (s *stream) release() error {
	err := s.node.ioctl(vidiocStreamOff, unsafe.Pointer(&s.typ))
	if errors.Is(err, unix.ENODEV) {
		err = nil // unplugged
	}
	errs := []error{err}
	for _, pieces := range s.memory {
		for _, b := range pieces {
			errs = append(errs, s.node.munmap(b))
		}
	}
	s.memory = nil
	if s.jpeg != nil {
		s.jpeg.Close()
	}
	s.pinned.Unpin()
	return errors.Join(errs...)
}
