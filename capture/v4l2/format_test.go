package v4l2

import (
	"fmt"
	"image"
	"image/color"
	"math/rand/v2"
	"testing"
)

// memory is a random picture as a driver leaves it: in one piece or several,
// with lines padded or not, and a way to ask what it shows.
func memory(f *format, width, height, pad int) (pieces [][]byte, strides []int, at func(x, y int) color.YCbCr) {
	random := rand.New(rand.NewPCG(uint64(width), uint64(height)))
	half, rows := (width+1)/2, (height+1)/2
	areas := map[layout][][2]int{packed: {{4 * half, height}}, pairs: {{width, height}, {2 * half, rows}}, planar: {{width, height}, {half, rows}, {half, rows}}}[f.layout]
	if f.layout == pairs && !f.apart { // chroma has the stride of luma
		areas[0][0] = max(areas[0][0], areas[1][0])
		areas[1][0] = areas[0][0]
	}
	if f.layout == planar && !f.apart { // half of it
		areas[0][0] = 2 * half
	}
	var area [][]byte
	var stride []int
	for i, a := range areas {
		line := a[0] + pad
		if f.layout == planar && i > 0 && !f.apart {
			line = a[0] + pad/2
		}
		b := make([]byte, line*a[1])
		for j := range b {
			b[j] = byte(random.Uint32())
		}
		area, stride = append(area, b), append(stride, line)
	}
	at = func(x, y int) color.YCbCr {
		c, o := x/2, y/2
		switch f.name {
		case "I420":
			return color.YCbCr{Y: area[0][y*stride[0]+x], Cb: area[1][o*stride[1]+c], Cr: area[2][o*stride[2]+c]}
		case "NV12":
			return color.YCbCr{Y: area[0][y*stride[0]+x], Cb: area[1][o*stride[1]+2*c], Cr: area[1][o*stride[1]+2*c+1]}
		case "NV21":
			return color.YCbCr{Y: area[0][y*stride[0]+x], Cr: area[1][o*stride[1]+2*c], Cb: area[1][o*stride[1]+2*c+1]}
		}
		luma, chroma := 0, 1
		if f.name == "UYVY" {
			luma, chroma = 1, 0
		}
		mean := func(i int) byte {
			a, b := area[0][2*o*stride[0]+4*c+chroma+i], area[0][(2*o+1)*stride[0]+4*c+chroma+i]
			return byte((int(a) + int(b) + 1) / 2)
		}
		return color.YCbCr{Y: area[0][y*stride[0]+2*x+luma], Cb: mean(0), Cr: mean(2)}
	}
	if f.apart {
		return area, stride, at
	}
	var all []byte
	for _, b := range area {
		all = append(all, b...)
	}
	return [][]byte{all}, stride[:1], at
}

func TestUnpack(t *testing.T) {
	for i := range formats {
		f := &formats[i]
		if f.unpack == nil {
			continue
		}
		for _, size := range []image.Point{{64, 48}, {66, 34}, {33, 17}, {18, 16}} {
			for _, pad := range []int{0, 6, 64} {
				t.Run(fmt.Sprint(fourccName(f.fourcc), size, pad), func(t *testing.T) {
					pieces, strides, at := memory(f, size.X, size.Y, pad)
					src, err := f.locate(pieces, strides, size.X, size.Y)
					if err != nil {
						t.Fatal(err)
					}
					c := newOut(size.X, size.Y)
					f.unpack(c, src)
					for y := range c.Rect.Dy() {
						for x := range c.Rect.Dx() {
							if got, want := c.YCbCrAt(x, y), at(x, y); got != want {
								t.Fatalf("pixel %d,%d is %v, want %v", x, y, got, want)
							}
						}
					}
					last := len(pieces) - 1
					pieces[last] = pieces[last][:len(pieces[last])-pad-2]
					if _, err := f.locate(pieces, strides, size.X, size.Y); err == nil {
						t.Error("a picture without its end was found whole")
					}
					if _, err := f.locate(nil, []int{0}, size.X, size.Y); err == nil {
						t.Error("a picture without memory was found whole")
					}
				})
			}
		}
	}
}

// FuzzLocate: whatever a driver says of lines and sizes, what is located can
// be read.
func FuzzLocate(f *testing.F) {
	f.Add(uint8(1), uint16(64), uint16(48), 64, 0, uint16(4608))
	f.Add(uint8(2), uint16(33), uint16(17), 64, 1<<30, uint16(9000))
	f.Fuzz(func(t *testing.T, which uint8, width, height uint16, stride, stride2 int, size uint16) {
		format := &formats[int(which)%len(formats)]
		w, h := int(width)%512, int(height)%512
		if format.unpack == nil || w < 16 || h < 16 || stride < 0 || stride2 < 0 || stride > 8*maxSide || stride2 > 8*maxSide {
			return
		}
		piece := make([]byte, size)
		src, err := format.locate([][]byte{piece, piece, piece}, []int{stride, stride2, stride2}, w, h)
		if err == nil {
			format.unpack(newOut(w, h), src)
		}
	})
}
