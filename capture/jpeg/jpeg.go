// Package jpeg decodes the pictures of cameras that send each as a JPEG
// (MJPEG): all of one size, most without the Huffman tables, which are then
// the standard's (ITU-T T.81, annex K.3).
package jpeg

import (
	"fmt"
	"image"
)

// Decoder decodes pictures of one size into memory that it keeps. One
// goroutine uses it. It belongs to no pool: Close it.
type Decoder struct {
	width, height int
	y             []byte      // luma
	stride        int         // of its rows
	chroma        [2][]byte   // as it comes, where that is not 4:2:0
	out           image.YCbCr // 4:2:0, of even size
	engine        engine
}

// maxSize is the most pixels that a picture has either way.
const maxSize = 8192

// New makes a decoder for pictures of width × height.
func New(width, height int) (*Decoder, error) {
	if width < 2 || height < 2 || width > maxSize || height > maxSize {
		return nil, fmt.Errorf("jpeg: pictures of %d × %d: 2 × 2 to %d × %d can be decoded", width, height, maxSize, maxSize)
	}
	cw, ch := (width+1)/2, (height+1)/2
	// Rows and lines of luma come for whole samples of chroma.
	stride, lines := (width+3)&^3, (height+1)&^1
	d := &Decoder{width: width, height: height, stride: stride, y: make([]byte, stride*lines)}
	d.out = image.YCbCr{
		Y: d.y, Cb: make([]byte, cw*ch), Cr: make([]byte, cw*ch), YStride: stride, CStride: cw,
		SubsampleRatio: image.YCbCrSubsampleRatio420, Rect: image.Rect(0, 0, width&^1, height&^1),
	}
	if err := d.engine.open(); err != nil {
		return nil, fmt.Errorf("jpeg: %w", err)
	}
	return d, nil
}

// Decode returns the picture as 4:2:0, of its size rounded down to even, valid
// until the next call. A picture of another size, or damaged or cut off, is an
// error; another may follow.
func (d *Decoder) Decode(b []byte) (*image.YCbCr, error) {
	if err := d.engine.decode(d, b); err != nil {
		return nil, fmt.Errorf("jpeg: %w", err)
	}
	return &d.out, nil
}

// Close frees the decoder. A second call does nothing.
func (d *Decoder) Close() { d.engine.close() }

// sizeError is what is wrong with a picture of another size.
func (d *Decoder) sizeError(w, h int) error {
	return fmt.Errorf("a picture of %d × %d instead of %d × %d", w, h, d.width, d.height)
}

// grey takes the colours out.
func (d *Decoder) grey() {
	for _, p := range [][]byte{d.out.Cb, d.out.Cr} {
		for i := range p {
			p[i] = 128
		}
	}
}

// shrink makes a plane of 4:2:0 of one with more, or other, samples: as many
// as the luma has or half as many down, and as many, half or a quarter across.
func (d *Decoder) shrink(dst, src []byte, stride, w, h int) {
	for y := range (d.height + 1) / 2 {
		upper, lower := y, y
		if h == d.height {
			upper, lower = 2*y, min(2*y+1, h-1)
		}
		row := dst[y*d.out.CStride:][:d.out.CStride]
		shrinkRow(row, src[upper*stride:][:w], src[lower*stride:][:w])
	}
}

// shrinkRow makes one row of the mean of two.
func shrinkRow(dst, a, b []byte) {
	b = b[:len(a)]
	switch n := len(dst); {
	case len(a) == n: // 4:2:2
		for x := range dst {
			dst[x] = byte((uint(a[x]) + uint(b[x]) + 1) / 2)
		}
	case len(a) > n: // 4:4:4, 4:4:0
		for x := range dst {
			i, j := 2*x, min(2*x+1, len(a)-1)
			dst[x] = byte((uint(a[i]) + uint(a[j]) + uint(b[i]) + uint(b[j]) + 2) / 4)
		}
	default: // 4:1:1
		for x := range dst {
			i := min(x/2, len(a)-1)
			dst[x] = byte((uint(a[i]) + uint(b[i]) + 1) / 2)
		}
	}
}
