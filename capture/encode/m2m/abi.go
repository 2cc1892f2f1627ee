package m2m

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// The kernel's structures (linux/videodev2.h) as far as an encoder needs
// them. Their layout follows the processor's word, and Go's struct layout
// follows suit; abi_test.go holds the sizes to the C headers'.

type capability struct {
	driver     [16]byte
	card       [32]byte
	_          [32]byte // bus_info
	_          uint32   // version
	caps       uint32
	deviceCaps uint32
	_          [3]uint32
}

type formatDescription struct {
	index  uint32
	typ    uint32
	_      uint32   // flags
	_      [32]byte // description
	format uint32
	_      [4]uint32 // mbus_code, reserved
}

// format is struct v4l2_format. C aligns the union to a pointer.
type format struct {
	typ uint32
	_   [0]uintptr
	pix [200]byte // single or multi
}

// single is struct v4l2_pix_format, multi v4l2_pix_format_mplane.
type single struct {
	width, height, format, field   uint32
	stride, size, colorspace, priv uint32
}

type multi struct {
	width, height, format, field, colorspace uint32
	plane                                    [8]struct {
		size, stride uint32
		_            [6]uint16
	}
	planes uint8
	_      [11]byte
}

type requestBuffers struct {
	count, typ, memory uint32
	_                  [2]uint32 // capabilities, flags
}

type plane struct {
	used, length uint32
	m            uintptr // its first four bytes are the offset
	data         uint32
	_            [11]uint32
}

type buffer struct {
	index, typ, used, flags, field uint32
	timestamp                      unix.Timeval
	_                              [4]uint32 // timecode
	sequence, memory               uint32
	m                              uintptr // offset, or the address of planes
	length                         uint32
	_                              [2]uint32 // reserved2, request_fd
}

type control struct {
	id    uint32
	value int32
}

type queryControl struct {
	id, typ                 uint32
	_                       [32]byte // name
	least, most, step, pref int32
	flags                   uint32
	_                       [2]uint32
}

type streamParameters struct {
	typ                    uint32
	_                      [2]uint32 // capability, outputmode
	numerator, denominator uint32    // seconds a frame
	_                      [184]byte
}

type selection struct {
	typ, target, flags       uint32
	left, top, width, height uint32
	_                        [9]uint32
}

type command struct {
	cmd, flags uint32
	_          [8]uint32
}

// ioctl numbers are direction, size of the argument, 'V' and a number
// (asm-generic/ioctl.h).
const (
	read, write = 2 << 30, 1 << 30
	video       = 'V' << 8

	querycap   = read | uint32(unsafe.Sizeof(capability{}))<<16 | video
	enumFormat = read | write | uint32(unsafe.Sizeof(formatDescription{}))<<16 | video | 2
	setFormat  = read | write | uint32(unsafe.Sizeof(format{}))<<16 | video | 5
	reqbufs    = read | write | uint32(unsafe.Sizeof(requestBuffers{}))<<16 | video | 8
	querybuf   = read | write | uint32(unsafe.Sizeof(buffer{}))<<16 | video | 9
	qbuf       = read | write | uint32(unsafe.Sizeof(buffer{}))<<16 | video | 15
	dqbuf      = read | write | uint32(unsafe.Sizeof(buffer{}))<<16 | video | 17
	streamOn   = write | 4<<16 | video | 18
	streamOff  = write | 4<<16 | video | 19
	setParm    = read | write | uint32(unsafe.Sizeof(streamParameters{}))<<16 | video | 22
	setControl = read | write | uint32(unsafe.Sizeof(control{}))<<16 | video | 28
	queryCtrl  = read | write | uint32(unsafe.Sizeof(queryControl{}))<<16 | video | 36
	encoderCmd = read | write | uint32(unsafe.Sizeof(command{}))<<16 | video | 77
	setSelect  = read | write | uint32(unsafe.Sizeof(selection{}))<<16 | video | 95
)

const (
	capM2M, capM2MPlanar, capDeviceCaps = 0x8000, 0x4000, 1 << 31

	// Buffer types. OUTPUT is what the program puts out: the raw pictures.
	typeCapture, typeOutput             = 1, 2
	typeCapturePlanar, typeOutputPlanar = 9, 10

	memoryMmap = 1
	fieldNone  = 1
	rec709     = 3 // V4L2_COLORSPACE_REC709

	flagError, flagLast = 0x40, 0x100000

	targetCrop  = 0 // V4L2_SEL_TGT_CROP
	commandStop = 1 // V4L2_ENC_CMD_STOP

	formatI420 = 'Y' | 'U'<<8 | '1'<<16 | '2'<<24
	formatNV12 = 'N' | 'V'<<8 | '1'<<16 | '2'<<24
	formatH264 = 'H' | '2'<<8 | '6'<<16 | '4'<<24
)

// Controls (linux/v4l2-controls.h).
const (
	gopSize       = 0x9909cb
	bitrateTarget = 0x9909cf
	repeatHeaders = 0x9909e2
	forceKeyframe = 0x9909e5
	iPeriod       = 0x990a66
	h264Level     = 0x990a67
	h264Profile   = 0x990a6b

	constrainedBaseline = 1
)
