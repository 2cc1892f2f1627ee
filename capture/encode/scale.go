package encode

import (
	"encoding/binary"
	"image"
)

// halve makes dst of src at half its width and height: each sample is the
// mean of two by two. Both are 4:2:0. dst's size is even and at most half of
// src's; what is beyond is left out.
func halve(dst, src *image.YCbCr) {
	w, h := dst.Rect.Dx(), dst.Rect.Dy()
	halvePlane(dst.Y, dst.YStride, src.Y, src.YStride, w, h)
	halvePlane(dst.Cb, dst.CStride, src.Cb, src.CStride, w/2, h/2)
	halvePlane(dst.Cr, dst.CStride, src.Cr, src.CStride, w/2, h/2)
}

// halvePlane makes w × h samples.
func halvePlane(dst []byte, dstStride int, src []byte, srcStride, w, h int) {
	for y := range h {
		upper, lower := src[2*y*srcStride:], src[(2*y+1)*srcStride:]
		halveRows(dst[y*dstStride:][:w], upper[:2*w], lower[:2*w])
	}
}

// halveRows makes one row of two, each twice as long. Four samples at a time
// are added up in the 16-bit lanes of a word: the sum of four bytes and the
// rounding fits.
func halveRows(dst, upper, lower []byte) {
	const even, two = 0x00ff00ff00ff00ff, 0x0002000200020002
	for len(dst) >= 4 && len(upper) >= 8 && len(lower) >= 8 {
		a, b := binary.LittleEndian.Uint64(upper), binary.LittleEndian.Uint64(lower)
		sum := a&even + a>>8&even + b&even + b>>8&even + two
		sum = sum >> 2 & even // a byte in each lane …
		sum = (sum | sum>>8) & 0x0000ffff0000ffff
		binary.LittleEndian.PutUint32(dst, uint32(sum|sum>>16)) // … together
		dst, upper, lower = dst[4:], upper[8:], lower[8:]
	}
	for i := range dst {
		dst[i] = byte((uint(upper[2*i]) + uint(upper[2*i+1]) + uint(lower[2*i]) + uint(lower[2*i+1]) + 2) / 4)
	}
}
