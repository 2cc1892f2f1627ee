package v4l2

import (
	"encoding/binary"
	"image"
)

// The ways from a driver's memory to a 4:2:0 picture of even size, a word at a
// time.

// even has the even bytes of a word, a 16-bit lane each.
const even = 0x00ff00ff00ff00ff

// squeeze puts the low bytes of the four lanes together.
func squeeze(x uint64) uint32 {
	x = (x | x>>8) & 0x0000ffff0000ffff
	return uint32(x | x>>16)
}

func unpackI420(dst *image.YCbCr, src samples) {
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	copyRows(dst.Y, dst.YStride, src, 0, w, h)
	copyRows(dst.Cb, dst.CStride, src, 1, w/2, h/2)
	copyRows(dst.Cr, dst.CStride, src, 2, w/2, h/2)
}

// copyRows copies w × h samples of one area.
func copyRows(dst []byte, stride int, src samples, area, w, h int) {
	for y := range h {
		copy(dst[y*stride:][:w], src.area[area][y*src.stride[area]:])
	}
}

func unpackNV12(dst *image.YCbCr, src samples) { unpackNV(dst, dst.Cb, dst.Cr, src) }
func unpackNV21(dst *image.YCbCr, src samples) { unpackNV(dst, dst.Cr, dst.Cb, src) }

// unpackNV parts chroma that comes in pairs.
func unpackNV(dst *image.YCbCr, first, second []byte, src samples) {
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	copyRows(dst.Y, dst.YStride, src, 0, w, h)
	for y := range h / 2 {
		o := y * dst.CStride
		part(first[o:][:w/2], second[o:][:w/2], src.area[1][y*src.stride[1]:][:w])
	}
}

func part(first, second, pairs []byte) {
	for len(first) >= 4 && len(second) >= 4 && len(pairs) >= 8 {
		x := binary.LittleEndian.Uint64(pairs)
		binary.LittleEndian.PutUint32(first, squeeze(x&even))
		binary.LittleEndian.PutUint32(second, squeeze(x>>8&even))
		first, second, pairs = first[4:], second[4:], pairs[8:]
	}
	for i := range first {
		first[i], second[i] = pairs[2*i], pairs[2*i+1]
	}
}

func unpackYUYV(dst *image.YCbCr, src samples) { unpackPacked(dst, src, 0) }
func unpackUYVY(dst *image.YCbCr, src samples) { unpackPacked(dst, src, 8) }

// unpackPacked takes 4:2:2 in groups of four bytes for two pixels; luma is
// shift bits up in each pair. Two rows become one of chroma.
func unpackPacked(dst *image.YCbCr, src samples, shift int) {
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	for y := 0; y < h; y += 2 {
		upper, lower := src.area[0][y*src.stride[0]:][:2*w], src.area[0][(y+1)*src.stride[0]:][:2*w]
		lumaOf(dst.Y[y*dst.YStride:][:w], upper, shift)
		lumaOf(dst.Y[(y+1)*dst.YStride:][:w], lower, shift)
		o := y / 2 * dst.CStride
		chromaOf(dst.Cb[o:][:w/2], dst.Cr[o:][:w/2], upper, lower, 8-shift)
	}
}

func lumaOf(luma, row []byte, shift int) {
	for len(luma) >= 4 && len(row) >= 8 {
		binary.LittleEndian.PutUint32(luma, squeeze(binary.LittleEndian.Uint64(row)>>(shift&8)&even))
		luma, row = luma[4:], row[8:]
	}
	for i := range luma { // two at most
		luma[i] = row[2*i+shift/8]
	}
}

// chromaOf makes the mean of two rows, rounded up: the sum of two bytes and
// the rounding fits a lane.
func chromaOf(cb, cr, upper, lower []byte, shift int) {
	const one = 0x0001000100010001
	for len(cb) >= 2 && len(cr) >= 2 && len(upper) >= 8 && len(lower) >= 8 {
		a, b := binary.LittleEndian.Uint64(upper)>>(shift&8)&even, binary.LittleEndian.Uint64(lower)>>(shift&8)&even
		mean := squeeze((a + b + one) >> 1 & even) // Cb Cr Cb Cr
		binary.LittleEndian.PutUint16(cb, uint16(mean&0xff|mean>>8&0xff00))
		binary.LittleEndian.PutUint16(cr, uint16(mean>>8&0xff|mean>>16&0xff00))
		cb, cr, upper, lower = cb[2:], cr[2:], upper[8:], lower[8:]
	}
	if len(cb) > 0 && len(cr) > 0 {
		c := shift / 8
		cb[0] = byte((uint(upper[c]) + uint(lower[c]) + 1) / 2)
		cr[0] = byte((uint(upper[c+2]) + uint(lower[c+2]) + 1) / 2)
	}
}
