package pattern

import (
	"encoding/binary"
	"fmt"
	"image"
	"image/color"
	"time"
)

// The block code. The picture is a grid of 32 × 18 cells. Rows 0 to 3 and
// columns 3 to 28 hold 104 bits, row by row, most significant bit first,
// white for 1 and black for 0: magic (8 bits), frame counter (32), Unix
// milliseconds (48), CRC-16/CCITT-FALSE of the 11 bytes before (16). The
// cells around are black.
const (
	gridColumns, gridRows = 32, 18
	firstColumn           = 3
	codeColumns, codeRows = 26, 4
	codeBytes             = codeColumns * codeRows / 8
	magic                 = 0xA7
	black, white          = 16, 235
	threshold             = 128
	minReadable           = 160 // pixels of width
)

// Code is what the block code says: which frame, captured when.
type Code struct {
	Frame uint32
	Time  time.Time // in milliseconds
}

// bytes are the code as it is drawn.
func (c Code) bytes() (b [codeBytes]byte) {
	b[0] = magic
	binary.BigEndian.PutUint32(b[1:], c.Frame)
	ms := uint64(c.Time.UnixMilli())
	binary.BigEndian.PutUint16(b[5:], uint16(ms>>32))
	binary.BigEndian.PutUint32(b[7:], uint32(ms))
	binary.BigEndian.PutUint16(b[11:], crc16(b[:11]))
	return b
}

func parse(b [codeBytes]byte) (Code, error) {
	if b[0] != magic {
		return Code{}, fmt.Errorf("no block code: 0x%02x where 0x%02x begins one", b[0], magic)
	}
	if got, want := crc16(b[:11]), binary.BigEndian.Uint16(b[11:]); got != want {
		return Code{}, fmt.Errorf("block code: CRC 0x%04x, read 0x%04x", got, want)
	}
	ms := int64(binary.BigEndian.Uint16(b[5:]))<<32 | int64(binary.BigEndian.Uint32(b[7:]))
	return Code{Frame: binary.BigEndian.Uint32(b[1:]), Time: time.UnixMilli(ms)}, nil
}

// crc16 is CRC-16/CCITT-FALSE: polynomial 0x1021, initial value 0xFFFF.
func crc16(b []byte) uint16 {
	crc := uint16(0xffff)
	for _, v := range b {
		crc ^= uint16(v) << 8
		for range 8 {
			carry := crc & 0x8000
			crc <<= 1
			if carry != 0 {
				crc ^= 0x1021
			}
		}
	}
	return crc
}

// cell is the place of a cell within r.
func cell(r image.Rectangle, column, row int) image.Rectangle {
	w, h := r.Dx(), r.Dy()
	return image.Rect(
		r.Min.X+column*w/gridColumns, r.Min.Y+row*h/gridRows,
		r.Min.X+(column+1)*w/gridColumns, r.Min.Y+(row+1)*h/gridRows)
}

// Draw draws the code and the black cells around it into the luma of img.
func Draw(img *image.YCbCr, c Code) {
	bits := c.bytes()
	for row := range codeRows {
		first := cell(img.Rect, firstColumn-1, row)
		last := cell(img.Rect, firstColumn+codeColumns, row)
		line := img.Y[img.YOffset(first.Min.X, first.Min.Y):][:last.Max.X-first.Min.X]
		fillBytes(line, black)
		for column := range codeColumns {
			n := row*codeColumns + column
			if bits[n/8]>>(7-n%8)&1 == 0 {
				continue
			}
			r := cell(img.Rect, firstColumn+column, row)
			fillBytes(line[r.Min.X-first.Min.X:r.Max.X-first.Min.X], white)
		}
		for y := first.Min.Y + 1; y < first.Max.Y; y++ {
			copy(img.Y[img.YOffset(first.Min.X, y):], line)
		}
	}
	below := cell(img.Rect, firstColumn-1, codeRows).Union(cell(img.Rect, firstColumn+codeColumns, codeRows))
	for y := below.Min.Y; y < below.Max.Y; y++ {
		fillBytes(img.Y[img.YOffset(below.Min.X, y):][:below.Dx()], black)
	}
}

func fillBytes(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// Read reads the code from a picture of the pattern that fills bounds of img,
// at any scale from 160 pixels of width on.
func Read(img image.Image, bounds image.Rectangle) (Code, error) {
	if !bounds.In(img.Bounds()) || bounds.Dx() < minReadable || bounds.Dy() < minReadable/2 {
		return Code{}, fmt.Errorf("no block code in %v of a picture of %v: at least %d pixels of width are needed", bounds, img.Bounds(), minReadable)
	}
	var b [codeBytes]byte
	for n := range codeColumns * codeRows {
		if luma(img, cell(bounds, firstColumn+n%codeColumns, n/codeColumns)) >= threshold {
			b[n/8] |= 1 << (7 - n%8)
		}
	}
	return parse(b)
}

// luma is the mean of the centre half of a cell, of some hundred pixels at most.
func luma(img image.Image, r image.Rectangle) int {
	inner := image.Rect(r.Min.X+r.Dx()/4, r.Min.Y+r.Dy()/4, r.Max.X-r.Dx()/4, r.Max.Y-r.Dy()/4)
	stepX, stepY := max(1, inner.Dx()/12), max(1, inner.Dy()/12)
	sum, n := 0, 0
	yuv, _ := img.(*image.YCbCr)
	for y := inner.Min.Y; y < inner.Max.Y; y += stepY {
		for x := inner.Min.X; x < inner.Max.X; x += stepX {
			if yuv != nil {
				sum += int(yuv.Y[yuv.YOffset(x, y)])
			} else {
				sum += int(color.GrayModel.Convert(img.At(x, y)).(color.Gray).Y)
			}
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / n
}
