//go:build cgo && linux && (amd64 || arm64 || arm)

package jpeg

// libjpeg-turbo, linked statically: five to ten times as fast as image/jpeg,
// by the SIMD instructions of every processor that cameras hang on.

/*
#cgo LDFLAGS: -l:libturbojpeg.a
#cgo noescape jpeg_header
#cgo nocallback jpeg_header
#cgo noescape jpeg_planes
#cgo nocallback jpeg_planes
#include <string.h>
#include <turbojpeg.h>

typedef struct { int width, height, sampling, colours; } jpeg_info;

static int jpeg_header(tjhandle h, const unsigned char *b, unsigned long n, jpeg_info *info) {
	return tjDecompressHeader3(h, b, n, &info->width, &info->height, &info->sampling, &info->colours);
}

// The planes are those of the picture's own sampling. A warning says that data
// is damaged, unless it is only of bytes too many, which some cameras send.
static int jpeg_planes(tjhandle h, const unsigned char *b, unsigned long n, unsigned char *y, unsigned char *cb, unsigned char *cr,
		int width, int stride, int chroma, int height) {
	unsigned char *planes[3] = {y, cb, cr};
	int strides[3] = {stride, chroma, chroma};
	int r = tjDecompressToYUVPlanes(h, b, n, planes, width, strides, height, TJFLAG_FASTDCT | TJFLAG_LIMITSCANS);
	if (r != 0 && tjGetErrorCode(h) == TJERR_WARNING && strstr(tjGetErrorStr2(h), "extraneous bytes") != NULL)
		return 0;
	return r;
}
*/
import "C"

import (
	"errors"
	"unsafe"
)

// Name is what decodes.
const Name = "libjpeg-turbo"

// engine is a decompressor in C's memory.
type engine struct {
	handle C.tjhandle
	info   C.jpeg_info // scratch
}

func (e *engine) open() error {
	if e.handle = C.tjInitDecompress(); e.handle == nil {
		return errors.New("libjpeg-turbo does not start")
	}
	return nil
}

func (e *engine) close() {
	if e.handle != nil {
		C.tjDestroy(e.handle)
		e.handle = nil
	}
}

// fault is what went wrong, after which the decompressor starts anew: it would
// read on in the middle of what it did not understand.
func (e *engine) fault() error {
	fault := errors.New(C.GoString(C.tjGetErrorStr2(e.handle)))
	e.close()
	return errors.Join(fault, e.open())
}

func (e *engine) decode(d *Decoder, b []byte) error {
	switch {
	case e.handle == nil:
		return errors.New("closed")
	case len(b) == 0:
		return errors.New("nothing")
	}
	data, n := (*C.uchar)(unsafe.Pointer(&b[0])), C.ulong(len(b))
	if C.jpeg_header(e.handle, data, n, &e.info) != 0 {
		return e.fault()
	}
	if w, h := int(e.info.width), int(e.info.height); w != d.width || h != d.height {
		return d.sizeError(w, h)
	}
	if c := e.info.colours; c != C.TJCS_YCbCr && c != C.TJCS_GRAY {
		return errors.New("colours that are not luma and chroma")
	}
	cb, cr := d.out.Cb, d.out.Cr
	w, h := d.width, d.height
	switch e.info.sampling {
	case C.TJSAMP_420:
		w, h = (w+1)/2, (h+1)/2
	case C.TJSAMP_GRAY:
	case C.TJSAMP_444:
	case C.TJSAMP_422:
		w = (w + 1) / 2
	case C.TJSAMP_440:
		h = (h + 1) / 2
	case C.TJSAMP_411:
		w = (w + 3) / 4
	default:
		return errors.New("colours in an unknown arrangement")
	}
	direct := e.info.sampling == C.TJSAMP_420 || e.info.sampling == C.TJSAMP_GRAY
	if !direct {
		for i := range d.chroma {
			if len(d.chroma[i]) < w*h {
				d.chroma[i] = make([]byte, w*h)
			}
		}
		cb, cr = d.chroma[0], d.chroma[1]
	}
	if C.jpeg_planes(e.handle, data, n, uchars(d.y), uchars(cb), uchars(cr), C.int(d.width), C.int(d.stride), C.int(w), C.int(d.height)) != 0 {
		return e.fault()
	}
	switch {
	case e.info.sampling == C.TJSAMP_GRAY:
		d.grey()
	case !direct:
		d.shrink(d.out.Cb, cb, w, w, h)
		d.shrink(d.out.Cr, cr, w, w, h)
	}
	return nil
}

func uchars(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(&b[0])) }
