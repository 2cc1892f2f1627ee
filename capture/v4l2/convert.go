package v4l2

import (
	"fmt"
	"image"
	"image/color"
)

// converter turns the pictures of any device into 4:2:0 of even size, into
// memory that it keeps.
type converter struct {
	out *image.YCbCr
}

// newConverter makes pictures of width × height, rounded down to even.
func newConverter(width, height int) *converter {
	return &converter{image.NewYCbCr(image.Rect(0, 0, width&^1, height&^1), image.YCbCrSubsampleRatio420)}
}

// convert returns img itself where it is as wanted already, else a picture
// that is valid until the next call.
func (c *converter) convert(img image.Image) (*image.YCbCr, error) {
	b, want := img.Bounds(), c.out.Rect
	if b.Dx() < want.Dx() || b.Dy() < want.Dy() || b.Dx() > want.Dx()+1 || b.Dy() > want.Dy()+1 {
		return nil, fmt.Errorf("a picture of %d × %d instead of %d × %d", b.Dx(), b.Dy(), want.Dx(), want.Dy())
	}
	switch img := img.(type) {
	case *image.YCbCr:
		if img.SubsampleRatio == image.YCbCrSubsampleRatio420 && b == want {
			return img, nil
		}
		c.fromYCbCr(img)
	case *image.Gray:
		for y := range want.Dy() {
			copy(c.out.Y[y*c.out.YStride:][:want.Dx()], img.Pix[img.PixOffset(b.Min.X, b.Min.Y+y):])
		}
		fill(c.out.Cb, 128)
		fill(c.out.Cr, 128)
	default:
		c.fromAny(img)
	}
	return c.out, nil
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// fromYCbCr copies the luma and averages the chroma of two rows where the
// picture has one for each (4:2:2, 4:4:4).
func (c *converter) fromYCbCr(img *image.YCbCr) {
	b, w, h := img.Rect, c.out.Rect.Dx(), c.out.Rect.Dy()
	for y := range h {
		copy(c.out.Y[y*c.out.YStride:][:w], img.Y[img.YOffset(b.Min.X, b.Min.Y+y):])
	}
	for y := 0; y < h; y += 2 {
		o := y / 2 * c.out.CStride
		upper := img.COffset(b.Min.X, b.Min.Y+y)
		lower := img.COffset(b.Min.X, b.Min.Y+y+1)
		if img.SubsampleRatio == image.YCbCrSubsampleRatio422 || img.SubsampleRatio == image.YCbCrSubsampleRatio420 {
			average(c.out.Cb[o:][:w/2], img.Cb[upper:], img.Cb[lower:])
			average(c.out.Cr[o:][:w/2], img.Cr[upper:], img.Cr[lower:])
			continue
		}
		for x := 0; x < w; x += 2 {
			i := img.COffset(b.Min.X+x, b.Min.Y+y)
			c.out.Cb[o+x/2], c.out.Cr[o+x/2] = img.Cb[i], img.Cr[i]
		}
	}
}

func average(dst, a, b []byte) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = byte((uint(a[i]) + uint(b[i]) + 1) / 2)
	}
}

// fromAny is slow and right: for what no device here is known to deliver.
func (c *converter) fromAny(img image.Image) {
	b := img.Bounds()
	for y := range c.out.Rect.Dy() {
		for x := range c.out.Rect.Dx() {
			p := color.YCbCrModel.Convert(img.At(b.Min.X+x, b.Min.Y+y)).(color.YCbCr)
			c.out.Y[c.out.YOffset(x, y)] = p.Y
			o := c.out.COffset(x, y)
			c.out.Cb[o], c.out.Cr[o] = p.Cb, p.Cr
		}
	}
}
