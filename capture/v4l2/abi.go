package v4l2

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// What the kernel takes and gives: linux/videodev2.h, as its C compilers lay
// it out where a pointer has 4 or 8 bytes. On 32-bit processors times are
// those of the old calls with 32 bits, which every kernel has.

// word is the size of a pointer, of C's long, and of half a struct timeval.
const word = unsafe.Sizeof(uintptr(0))

// capability is struct v4l2_capability.
type capability struct {
	driver     [16]byte
	_          [32 + 32]byte // card, bus_info
	_          uint32        // version
	caps       uint32
	deviceCaps uint32
	_          [3]uint32
}

const (
	capCapture       = 0x00000001
	capCaptureMplane = 0x00001000
	capM2MMplane     = 0x00004000
	capM2M           = 0x00008000
	capStreaming     = 0x04000000
	capIOMC          = 0x20000000
	capDeviceCaps    = 0x80000000
)

// fmtDesc is struct v4l2_fmtdesc.
type fmtDesc struct {
	index, typ, flags uint32
	_                 [32]byte
	fourcc            uint32
	_                 [4]uint32
}

// Types of buffer queues, and the way of memory.
const (
	typeCapture       = 1
	typeCaptureMplane = 9
	memoryMMAP        = 1
)

// pixFormat is struct v4l2_format with the struct v4l2_pix_format in it.
type pixFormat struct {
	typ           uint32
	_             [0]uintptr // the union is aligned as its pointers
	width, height uint32
	fourcc, field uint32
	bytesPerLine  uint32
	sizeImage     uint32
	_             [200 - 24]byte
}

// maxPlanes is VIDEO_MAX_PLANES.
const maxPlanes = 8

// mplaneFormat is struct v4l2_format with the struct v4l2_pix_format_mplane
// in it.
type mplaneFormat struct {
	typ           uint32
	_             [0]uintptr
	width, height uint32
	fourcc, field uint32
	_             uint32 // colorspace
	planes        [maxPlanes]struct {
		sizeImage    uint32
		bytesPerLine uint32
		_            [6]uint16
	}
	numPlanes uint8
	_         [200 - 20 - maxPlanes*20 - 1]byte
}

// fract is struct v4l2_fract.
type fract struct{ numerator, denominator uint32 }

// streamParm is struct v4l2_streamparm of a capture queue.
type streamParm struct {
	typ          uint32
	capability   uint32
	mode         uint32
	timePerFrame fract
	_            [200 - 16]byte
}

const capTimePerFrame = 0x1000

// frameSize is struct v4l2_frmsizeenum. For a discrete size stepwise begins
// with width and height.
type frameSize struct {
	index, fourcc, typ uint32
	stepwise           struct{ minWidth, maxWidth, stepWidth, minHeight, maxHeight, stepHeight uint32 }
	_                  [2]uint32
}

// frameInterval is struct v4l2_frmivalenum. For a discrete interval least is
// it.
type frameInterval struct {
	index, fourcc, width, height, typ uint32
	least, most, step                 fract
	_                                 [2]uint32
}

const discrete = 1 // V4L2_FRMSIZE_TYPE_DISCRETE, V4L2_FRMIVAL_TYPE_DISCRETE

// requestBuffers is struct v4l2_requestbuffers.
type requestBuffers struct {
	count, typ, memory, caps uint32
	_                        [4]byte
}

// buffer is struct v4l2_buffer.
type buffer struct {
	index, typ       uint32
	bytesUsed, flags uint32
	field            uint32
	timestamp        unix.Timeval
	_                [16]byte // timecode
	sequence, memory uint32
	m                uintptr // an offset, or the address of planes
	length           uint32  // bytes, or the number of planes
	_                [2]uint32
}

const (
	flagError         = 0x00000040
	flagTimestampMask = 0x0000e000
	flagMonotonic     = 0x00002000
)

// plane is struct v4l2_plane.
type plane struct {
	bytesUsed, length uint32
	m                 uintptr // an offset
	dataOffset        uint32
	_                 [11]uint32
}

// control is struct v4l2_control.
type control struct {
	id    uint32
	value int32
}

// queryControl is struct v4l2_queryctrl.
type queryControl struct {
	id, typ             uint32
	name                [32]byte
	min, max, step, def int32
	flags               uint32
	_                   [2]uint32
}

const controlDisabled = 0x0001

// input is struct v4l2_input.
type input struct {
	index        uint32
	_            [32]byte // name
	_            [3]uint32
	_            uint64 // std
	status       uint32
	capabilities uint32
	_            [4]uint32
}

const inputTimings = 0x00000002 // V4L2_IN_CAP_DV_TIMINGS

// timings is struct v4l2_dv_timings: from one call to the other, unread.
type timings [132]byte

// eventSubscription is struct v4l2_event_subscription.
type eventSubscription struct {
	typ, id, flags uint32
	_              [5]uint32
}

// event is struct v4l2_event with the source change in it.
type event struct {
	typ     uint32
	_       uint32
	changes uint32
	_       [112 + 2*word - 4]byte
}

const (
	eventSourceChange = 5
	changeResolution  = 1
)

// The requests: direction, size of the argument, 'V', number
// (asm-generic/ioctl.h, which amd64, arm and arm64 follow).
const (
	toKernel   = 1 << 30 // _IOW
	fromKernel = 2 << 30 // _IOR
	both       = toKernel | fromKernel
	group      = 'V' << 8

	vidiocQueryCap       = fromKernel | unsafe.Sizeof(capability{})<<16 | group
	vidiocEnumFmt        = both | unsafe.Sizeof(fmtDesc{})<<16 | group | 2
	vidiocGFmt           = both | unsafe.Sizeof(pixFormat{})<<16 | group | 4
	vidiocSFmt           = both | unsafe.Sizeof(pixFormat{})<<16 | group | 5
	vidiocReqBufs        = both | unsafe.Sizeof(requestBuffers{})<<16 | group | 8
	vidiocQueryBuf       = both | unsafe.Sizeof(buffer{})<<16 | group | 9
	vidiocQBuf           = both | unsafe.Sizeof(buffer{})<<16 | group | 15
	vidiocDQBuf          = both | unsafe.Sizeof(buffer{})<<16 | group | 17
	vidiocStreamOn       = toKernel | 4<<16 | group | 18
	vidiocStreamOff      = toKernel | 4<<16 | group | 19
	vidiocGParm          = both | unsafe.Sizeof(streamParm{})<<16 | group | 21
	vidiocSParm          = both | unsafe.Sizeof(streamParm{})<<16 | group | 22
	vidiocEnumInput      = both | unsafe.Sizeof(input{})<<16 | group | 26
	vidiocGCtrl          = both | unsafe.Sizeof(control{})<<16 | group | 27
	vidiocSCtrl          = both | unsafe.Sizeof(control{})<<16 | group | 28
	vidiocQueryCtrl      = both | unsafe.Sizeof(queryControl{})<<16 | group | 36
	vidiocGInput         = fromKernel | 4<<16 | group | 38
	vidiocEnumFrameSizes = both | unsafe.Sizeof(frameSize{})<<16 | group | 74
	vidiocEnumIntervals  = both | unsafe.Sizeof(frameInterval{})<<16 | group | 75
	vidiocSDVTimings     = both | unsafe.Sizeof(timings{})<<16 | group | 87
	vidiocDQEvent        = fromKernel | unsafe.Sizeof(event{})<<16 | group | 89
	vidiocSubscribe      = toKernel | unsafe.Sizeof(eventSubscription{})<<16 | group | 90
	vidiocQueryDVTimings = fromKernel | unsafe.Sizeof(timings{})<<16 | group | 99
)

// A size that differs from the kernel's does not compile. TestABI holds these
// to the C headers.
var (
	_ = [1]struct{}{}[unsafe.Sizeof(capability{})-104]
	_ = [1]struct{}{}[unsafe.Sizeof(fmtDesc{})-64]
	_ = [1]struct{}{}[unsafe.Sizeof(pixFormat{})-(200+word)]
	_ = [1]struct{}{}[unsafe.Sizeof(mplaneFormat{})-(200+word)]
	_ = [1]struct{}{}[unsafe.Sizeof(streamParm{})-204]
	_ = [1]struct{}{}[unsafe.Sizeof(frameSize{})-44]
	_ = [1]struct{}{}[unsafe.Sizeof(frameInterval{})-52]
	_ = [1]struct{}{}[unsafe.Sizeof(requestBuffers{})-20]
	_ = [1]struct{}{}[unsafe.Sizeof(buffer{})-(48+5*word)]
	_ = [1]struct{}{}[unsafe.Sizeof(plane{})-(56+word)]
	_ = [1]struct{}{}[unsafe.Sizeof(control{})-8]
	_ = [1]struct{}{}[unsafe.Sizeof(queryControl{})-68]
	_ = [1]struct{}{}[unsafe.Sizeof(input{})-80]
	_ = [1]struct{}{}[unsafe.Sizeof(eventSubscription{})-32]
	_ = [1]struct{}{}[unsafe.Sizeof(event{})-(120+2*word)]
)
