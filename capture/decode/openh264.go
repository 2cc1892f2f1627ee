//go:build cgo && linux && (amd64 || arm64 || arm.7)

package decode

/*
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

// What is needed of OpenH264's interface for C, version 2.1. The library
// itself comes with mediadevices' encoder, whose package names it to the
// linker.
typedef struct {
	char *reconstructed;
	unsigned cpu_load;
	unsigned char target_layer;
	int concealment;
	bool parse_only;
	struct { unsigned size; int type; } video;
} decoding_param;

typedef struct {
	int ready;
	unsigned long long in_time, out_time;
	struct { int width, height, format, stride[2]; } picture;
	unsigned char *planes[3];
} buffer_info;

typedef const struct decoder_table *decoder;
struct decoder_table {
	long (*initialize)(decoder *, const decoding_param *);
	long (*uninitialize)(decoder *);
	int (*decode_frame)(decoder *, const unsigned char *, int, unsigned char **, int *, int *, int *);
	int (*decode_no_delay)(decoder *, const unsigned char *, int, unsigned char **, buffer_info *);
	int (*decode2)(decoder *, const unsigned char *, int, unsigned char **, buffer_info *);
	int (*flush)(decoder *, unsigned char **, buffer_info *);
	int (*parse)(decoder *, const unsigned char *, int, void *);
	int (*decode_ex)(decoder *, const unsigned char *, int, unsigned char *, int, int *, int *, int *, int *);
	long (*set_option)(decoder *, int, void *);
	long (*get_option)(decoder *, int, void *);
};

extern long WelsCreateDecoder(decoder **);
extern void WelsDestroyDecoder(decoder *);

enum { option_trace_level = 9, avc = 0, i420 = 23 };

// open_decoder gives a decoder, or NULL.
static decoder *open_decoder(void) {
	decoder *d = NULL;
	if (WelsCreateDecoder(&d) != 0 || d == NULL)
		return NULL;
	int quiet = 0;
	(*d)->set_option(d, option_trace_level, &quiet);
	decoding_param p;
	memset(&p, 0, sizeof p);
	p.target_layer = 255;
	p.video.size = sizeof p.video;
	p.video.type = avc;
	if ((*d)->initialize(d, &p) != 0) {
		WelsDestroyDecoder(d);
		return NULL;
	}
	return d;
}

// decode_unit decodes one access unit; the planes are the decoder's.
static int decode_unit(decoder *d, const unsigned char *unit, int size, buffer_info *info) {
	unsigned char *planes[3] = {NULL, NULL, NULL};
	memset(info, 0, sizeof *info);
	int state = (*d)->decode_no_delay(d, unit, size, planes, info);
	if (state == 0 && info->ready != 1) {
		memset(info, 0, sizeof *info);
		state = (*d)->flush(d, planes, info);
	}
	memcpy(info->planes, planes, sizeof planes);
	return state;
}

static void close_decoder(decoder *d) {
	(*d)->uninitialize(d);
	WelsDestroyDecoder(d);
}
*/
import "C"

import (
	"image"
	"unsafe"

	_ "github.com/pion/mediadevices/pkg/codec/openh264" // the library

	"edged/capture"
)

// h264Name is the decoder of this build.
const h264Name = "OpenH264 2.1.1"

// decodeH264 decodes a keyframe as a byte stream.
func decodeH264(unit []byte) (*image.YCbCr, error) {
	d := C.open_decoder()
	if d == nil {
		return nil, capture.Errorf(capture.CodeCodec, "%s cannot be opened", h264Name)
	}
	defer C.close_decoder(d)
	var info C.buffer_info
	state := C.decode_unit(d, (*C.uchar)(unsafe.Pointer(unsafe.SliceData(unit))), C.int(len(unit)), &info)
	w, h := int(info.picture.width), int(info.picture.height)
	luma, chroma := int(info.picture.stride[0]), int(info.picture.stride[1])
	switch {
	case state != 0 || info.ready != 1 || info.picture.format != C.i420 || info.planes[0] == nil || info.planes[1] == nil || info.planes[2] == nil:
		return nil, capture.Errorf(capture.CodeProtocol, "%s: no picture, state %#x", h264Name, int(state))
	case w <= 0 || h <= 0 || w > MaxWidth || h > MaxHeight || luma < w || chroma < (w+1)/2:
		return nil, capture.Errorf(capture.CodeProtocol, "%s: a picture of %d × %d", h264Name, w, h)
	}
	img := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
	copyPlane(img.Y, img.YStride, info.planes[0], luma, h)
	copyPlane(img.Cb, img.CStride, info.planes[1], chroma, (h+1)/2)
	copyPlane(img.Cr, img.CStride, info.planes[2], chroma, (h+1)/2)
	return img, nil
}

// copyPlane copies rows of dstStride bytes each, which src has at least.
func copyPlane(dst []byte, dstStride int, src *C.uchar, srcStride, rows int) {
	for y := range rows {
		row := unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(src), y*srcStride)), dstStride)
		copy(dst[y*dstStride:][:dstStride], row)
	}
}
