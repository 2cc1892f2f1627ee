package v4l2

import (
	"cmp"
	"fmt"
	"math"
	"unsafe"

	"edged/capture"
)

// What is agreed with a driver before pictures come.

// maxEntries bounds each list that a driver tells.
const maxEntries = 256

// modes asks for all ways in which the device delivers pictures that can be
// used. Where a driver takes any size of a range, the wanted one stands for
// all, or the nearest that there is.
func modesOf(n node, typ uint32, want mode) []mode {
	var out []mode
	for i := range uint32(maxEntries) {
		d := fmtDesc{index: i, typ: typ}
		if n.ioctl(vidiocEnumFmt, unsafe.Pointer(&d)) != nil {
			break
		}
		if f := formatOf(d.fourcc); f != nil {
			out = append(out, sizesOf(n, f, want)...)
		}
	}
	return out
}

func sizesOf(n node, f *format, want mode) []mode {
	var out []mode
	for i := range uint32(maxEntries) {
		s := frameSize{index: i, fourcc: f.fourcc}
		if n.ioctl(vidiocEnumFrameSizes, unsafe.Pointer(&s)) != nil {
			break
		}
		if s.typ == discrete {
			out = append(out, ratesOf(n, f, int(s.stepwise.minWidth), int(s.stepwise.maxWidth), want)...)
			continue
		}
		r := s.stepwise
		return ratesOf(n, f, within(want.width, r.minWidth, r.maxWidth, r.stepWidth), within(want.height, r.minHeight, r.maxHeight, r.stepHeight), want)
	}
	if out == nil { // a driver without lists: it is asked for what is wanted, and says what it made of it
		out = append(out, mode{format: f, width: want.width, height: want.height})
	}
	return out
}

// within is the value nearest to want in a range.
func within(want int, least, most, step uint32) int {
	lo, hi, by := int(least), int(most), max(1, int(step))
	v := min(max(want, lo), hi)
	return v - (v-lo)%by
}

// ratesOf lists the frame rates of a size.
func ratesOf(n node, f *format, width, height int, want mode) []mode {
	var out []mode
	for i := range uint32(maxEntries) {
		v := frameInterval{index: i, fourcc: f.fourcc, width: uint32(width), height: uint32(height)}
		if n.ioctl(vidiocEnumIntervals, unsafe.Pointer(&v)) != nil {
			break
		}
		if v.typ != discrete { // the least interval is the highest rate
			fps := min(max(want.fps, v.most.rate()), cmp.Or(v.least.rate(), want.fps))
			return append(out, mode{f, width, height, fps})
		}
		out = append(out, mode{f, width, height, v.least.rate()})
	}
	if out == nil {
		out = append(out, mode{format: f, width: width, height: height})
	}
	return out
}

// rate is the frames a second of an interval, 0 for none that makes sense.
func (f fract) rate() float64 {
	if f.numerator == 0 || f.denominator == 0 {
		return 0
	}
	return float64(f.denominator) / float64(f.numerator)
}

// picture is what the driver agreed to.
type picture struct {
	mode
	strides []int // bytes from one line to the next, of each piece of memory; 0: not said
}

// setFormat asks for a mode and takes what the driver makes of it.
func setFormat(n node, typ uint32, m mode) (picture, error) {
	var got uint32
	p := picture{mode: m}
	if typ == typeCaptureMplane {
		f := mplaneFormat{typ: typ, width: uint32(m.width), height: uint32(m.height), fourcc: m.format.fourcc, field: fieldNone}
		if err := n.ioctl(vidiocSFmt, unsafe.Pointer(&f)); err != nil {
			return picture{}, fmt.Errorf("format %s: %w", m, err)
		}
		got, p.width, p.height = f.fourcc, int(f.width), int(f.height)
		for _, pl := range f.planes[:min(f.numPlanes, maxPlanes)] {
			p.strides = append(p.strides, int(pl.bytesPerLine))
		}
	} else {
		f := pixFormat{typ: typ, width: uint32(m.width), height: uint32(m.height), fourcc: m.format.fourcc, field: fieldNone}
		if err := n.ioctl(vidiocSFmt, unsafe.Pointer(&f)); err != nil {
			return picture{}, fmt.Errorf("format %s: %w", m, err)
		}
		got, p.width, p.height = f.fourcc, int(f.width), int(f.height)
		p.strides = []int{int(f.bytesPerLine)}
	}
	if p.format = formatOf(got); p.format == nil {
		return picture{}, capture.Errorf(capture.CodeCodec, "asked for %s it delivers %s, which cannot be used", m, fourccName(got))
	}
	if p.width < 16 || p.height < 16 || p.width > maxSide || p.height > maxSide || len(p.strides) == 0 {
		return picture{}, capture.Errorf(capture.CodeProtocol, "asked for %s it delivers %d × %d in %d pieces", m, p.width, p.height, len(p.strides))
	}
	for _, s := range p.strides {
		if s < 0 || s > maxSide*8 {
			return picture{}, capture.Errorf(capture.CodeProtocol, "%d bytes a line", s)
		}
	}
	return p, nil
}

const (
	fieldNone = 1     // V4L2_FIELD_NONE: whole pictures, not interlaced
	maxSide   = 16384 // pixels
)

// setRate asks for a frame rate and returns what the driver makes of it, 0
// where it does not say.
func setRate(n node, typ uint32, fps float64) float64 {
	p := streamParm{typ: typ}
	if n.ioctl(vidiocGParm, unsafe.Pointer(&p)) != nil || p.capability&capTimePerFrame == 0 {
		return p.timePerFrame.rate()
	}
	p = streamParm{typ: typ, timePerFrame: fract{1000, uint32(math.Round(fps * 1000))}}
	if n.ioctl(vidiocSParm, unsafe.Pointer(&p)) != nil {
		return 0
	}
	return p.timePerFrame.rate()
}

// signal is what a grabber digitizes; of a camera it is the zero value.
type signal struct {
	told    bool // the driver tells when it changes
	timed   bool // timings are known
	timings timings
}

// lockSignal makes a grabber take the signal that it sees. For a camera it
// does nothing.
func lockSignal(n node) (s signal, err error) {
	e := eventSubscription{typ: eventSourceChange}
	s.told = n.ioctl(vidiocSubscribe, unsafe.Pointer(&e)) == nil
	var index uint32
	if n.ioctl(vidiocGInput, unsafe.Pointer(&index)) != nil {
		return s, nil
	}
	in := input{index: index}
	if n.ioctl(vidiocEnumInput, unsafe.Pointer(&in)) != nil || in.capabilities&inputTimings == 0 {
		return s, nil
	}
	if err := n.ioctl(vidiocQueryDVTimings, unsafe.Pointer(&s.timings)); err != nil {
		return s, capture.Errorf(capture.CodeStalled, "no signal: %w", err)
	}
	if err := n.ioctl(vidiocSDVTimings, unsafe.Pointer(&s.timings)); err != nil {
		return s, fmt.Errorf("timings of the signal: %w", err)
	}
	s.timed = true
	return s, nil
}

// changed tells whether the signal has another size than it was locked to, or
// is none any more. An event alone may be about what was there before.
func (s *signal) changed(n node, e *event) bool {
	*e = event{}
	if n.ioctl(vidiocDQEvent, unsafe.Pointer(e)) != nil || e.typ != eventSourceChange || e.changes&changeResolution == 0 {
		return false
	}
	var now timings
	return !s.timed || n.ioctl(vidiocQueryDVTimings, unsafe.Pointer(&now)) != nil || now.size() != s.timings.size()
}

// size is width, height and interlacing, behind the type.
func (t *timings) size() [12]byte { return [12]byte(t[4:16]) }
