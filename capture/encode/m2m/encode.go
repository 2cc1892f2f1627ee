package m2m

import (
	"errors"
	"fmt"
	"image"
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"edged/capture"
)

// Encode blocks until the picture, 4:2:0 of the configured size, is encoded,
// for two seconds at most. It returns a byte stream, valid until the next
// call, and empty where the encoder left the picture out. An encoder that
// returned an error is to be closed.
func (e *Encoder) Encode(img *image.YCbCr, captured time.Time) ([]byte, error) {
	e.mu.Lock()
	closed := e.closed
	e.mu.Unlock()
	if closed {
		return nil, capture.Errorf(capture.CodeEncoder, "%s: closed", e.name)
	}
	out, err := e.encode(img, captured)
	if err != nil {
		e.failed = true
		return nil, fmt.Errorf("%s: %w", e.name, err)
	}
	return out, nil
}

func (e *Encoder) encode(img *image.YCbCr, captured time.Time) ([]byte, error) {
	if err := e.takeBack(); err != nil {
		return nil, err
	}
	e.fill(img)
	if err := e.queue(captured); err != nil {
		return nil, err
	}
	return e.collect()
}

// takeBack waits for the buffer of the picture before. It is free by then, as
// a rule: that the picture is read is not waited for when its coded form comes.
func (e *Encoder) takeBack() error {
	for until := time.Now().Add(patience); e.rawQueued; {
		if err := e.node.wait(unix.POLLOUT, time.Until(until)); err != nil {
			return capture.Errorf(capture.CodeEncoder, "a picture is not given back: %w", err)
		}
		e.rawBuf = buffer{typ: e.types()[1], memory: memoryMmap}
		e.attach(&e.rawBuf, &e.rawPl)
		err := e.node.ioctl(dqbuf, unsafe.Pointer(&e.rawBuf))
		switch {
		case err == nil:
			e.rawQueued = false
		case !errors.Is(err, unix.EAGAIN):
			return fault(err, "take a picture back")
		}
	}
	return nil
}

// fill writes the picture into the encoder's memory, as I420 or NV12.
func (e *Encoder) fill(img *image.YCbCr) {
	w, h := e.cfg.Width, e.cfg.Height
	raw := e.raw[0]
	rows(raw, e.stride, img.Y, img.YStride, w, h)
	chroma := raw[e.stride*e.lines:]
	if e.format == formatI420 {
		rows(chroma, e.stride/2, img.Cb, img.CStride, w/2, h/2)
		rows(chroma[e.stride/2*(e.lines/2):], e.stride/2, img.Cr, img.CStride, w/2, h/2)
		return
	}
	for y := range h / 2 {
		dst := chroma[y*e.stride:][:w]
		cb, cr := img.Cb[y*img.CStride:][:w/2], img.Cr[y*img.CStride:][:w/2]
		for x := range cb {
			dst[2*x], dst[2*x+1] = cb[x], cr[x]
		}
	}
}

func rows(dst []byte, dstStride int, src []byte, srcStride, w, h int) {
	if dstStride == w && srcStride == w {
		copy(dst, src[:w*h])
		return
	}
	for y := range h {
		copy(dst[y*dstStride:][:w], src[y*srcStride:])
	}
}

// queue gives the picture to the encoder with a time by which its coded form
// is known.
func (e *Encoder) queue(captured time.Time) error {
	if e.start.IsZero() {
		e.start = captured
	}
	// Times rise, whatever the clock does: the rate control goes by them.
	e.last = max(firstMoment+captured.Sub(e.start).Truncate(time.Microsecond), e.last+time.Microsecond)
	e.rawBuf = buffer{typ: e.types()[1], memory: memoryMmap, field: fieldNone, timestamp: unix.NsecToTimeval(int64(e.last))}
	e.rawPl = plane{used: uint32(e.stride * e.lines * 3 / 2), length: uint32(len(e.raw[0]))}
	e.rawBuf.used, e.rawBuf.length = e.rawPl.used, e.rawPl.length
	e.attach(&e.rawBuf, &e.rawPl)
	if err := e.node.ioctl(qbuf, unsafe.Pointer(&e.rawBuf)); err != nil {
		return fault(err, "queue a picture")
	}
	e.rawQueued = true
	return nil
}

// collect waits for the coded form of the picture that was queued last.
func (e *Encoder) collect() ([]byte, error) {
	for until := time.Now().Add(patience); ; {
		if err := e.node.wait(unix.POLLIN, time.Until(until)); err != nil {
			return nil, capture.Errorf(capture.CodeEncoder, "a picture is not encoded: %w", err)
		}
		ours, err := e.take()
		if errors.Is(err, unix.EAGAIN) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if ours {
			return e.out, nil
		}
	}
}

// take copies one coded picture out and gives its buffer back. The memory may
// be uncached: it is read once. ours is false for one that is not of the
// picture queued last.
func (e *Encoder) take() (ours bool, err error) {
	e.codeBuf, e.codePl = buffer{typ: e.types()[0], memory: memoryMmap}, plane{}
	e.attach(&e.codeBuf, &e.codePl)
	if err := e.node.ioctl(dqbuf, unsafe.Pointer(&e.codeBuf)); err != nil {
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EPIPE) {
			return false, err
		}
		return false, fault(err, "take a coded picture")
	}
	used, skip := int(e.codeBuf.used), 0
	if e.planar {
		used, skip = int(e.codePl.used), int(e.codePl.data)
	}
	index, flags := int(e.codeBuf.index), e.codeBuf.flags
	if index >= len(e.coded) || used > len(e.coded[index]) || skip > used {
		return false, capture.Errorf(capture.CodeEncoder, "%d bytes in buffer %d", used, index)
	}
	whole := used < len(e.coded[index])
	e.out = append(e.out[:0], e.coded[index][skip:used]...)
	if flags&flagLast != 0 {
		return false, unix.EPIPE
	}
	ours = time.Duration(e.codeBuf.timestamp.Nano()) == e.last
	if err := e.giveBack(uint32(index)); err != nil {
		return false, err
	}
	switch {
	case flags&flagError != 0:
		return false, capture.Errorf(capture.CodeEncoder, "a picture could not be encoded")
	case !whole:
		return false, capture.Errorf(capture.CodeEncoder, "a coded picture of more than %d bytes", used)
	}
	return ours, nil
}

// giveBack queues a buffer for coded pictures.
func (e *Encoder) giveBack(index uint32) error {
	e.codeBuf = buffer{index: index, typ: e.types()[0], memory: memoryMmap}
	e.codePl = plane{length: uint32(len(e.coded[index]))}
	e.codeBuf.length = e.codePl.length
	e.attach(&e.codeBuf, &e.codePl)
	if err := e.node.ioctl(qbuf, unsafe.Pointer(&e.codeBuf)); err != nil {
		return fault(err, "queue a buffer")
	}
	return nil
}

// ForceKeyframe makes the next picture a keyframe. Any goroutine may call it.
func (e *Encoder) ForceKeyframe() { e.set(func() { _ = e.control(forceKeyframe, 1) }) }

// SetBitrate changes the target in bits/s; the driver rounds it to what it
// can. Any goroutine may call it.
func (e *Encoder) SetBitrate(bitrate int) { e.set(func() { _ = e.control(bitrateTarget, bitrate) }) }

// SetFrameRate says how many frames a second come from now on. Any goroutine
// may call it.
func (e *Encoder) SetFrameRate(fps int) {
	e.set(func() {
		p := streamParameters{typ: e.types()[1], numerator: 1, denominator: uint32(max(1, fps))}
		_ = e.node.ioctl(setParm, unsafe.Pointer(&p))
	})
}

// set runs f unless the encoder is closed. What the driver refuses stays as it
// was: it was asked at the start whether it can.
func (e *Encoder) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.closed {
		f()
	}
}

// Close ends the stream as the encoder's interface wants it, waiting for half
// a second at most, and frees the encoder. One that has failed is not asked to
// end anything. A second call does nothing; none may run beside Encode.
func (e *Encoder) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	var err error
	if !e.failed {
		err = e.drain()
	}
	return errors.Join(err, e.release())
}

// drain has the encoder finish what it has.
func (e *Encoder) drain() error {
	if err := e.node.ioctl(encoderCmd, unsafe.Pointer(&command{cmd: commandStop})); err != nil {
		return nil //nolint:nilerr // an encoder without the command has no end of stream either
	}
	for until := time.Now().Add(drainIn); ; {
		if err := e.node.wait(unix.POLLIN, time.Until(until)); err != nil {
			return fmt.Errorf("%s: the stream does not end: %w", e.name, err)
		}
		switch _, err := e.take(); {
		case errors.Is(err, unix.EPIPE): // all has come
			return nil
		case err != nil && !errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("%s: end of the stream: %w", e.name, err)
		}
	}
}

// release gives back all there is. The queues' buffers go with the descriptor.
func (e *Encoder) release() error {
	var errs []error
	if e.raw != nil {
		for _, typ := range e.types() {
			if err := e.node.ioctl(streamOff, unsafe.Pointer(&typ)); err != nil {
				errs = append(errs, fmt.Errorf("%s: stop: %w", e.name, err))
			}
		}
	}
	for _, b := range slices.Concat(e.raw, e.coded) {
		errs = append(errs, e.node.munmap(b))
	}
	e.raw, e.coded = nil, nil
	return errors.Join(append(errs, e.node.close())...)
}
