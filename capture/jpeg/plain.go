//go:build !cgo || !linux || (!amd64 && !arm64 && !arm)

package jpeg

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/jpeg"

	"github.com/pion/mediadevices/pkg/frame"
)

// Name is what decodes.
const Name = "image/jpeg"

// engine is the standard library, in a build without C. It makes a picture
// anew each time, and is good for small ones.
type engine struct{ mjpeg frame.Decoder }

func (e *engine) open() (err error) {
	e.mjpeg, err = frame.NewDecoder(frame.FormatMJPEG) // which adds the Huffman tables
	return err
}

func (e *engine) close() { e.mjpeg = nil }

func (e *engine) decode(d *Decoder, b []byte) error {
	if e.mjpeg == nil {
		return errors.New("closed")
	}
	c, err := jpeg.DecodeConfig(bytes.NewReader(b)) // first: what a hostile header promises is not allocated
	if err != nil {
		return err
	}
	if c.Width != d.width || c.Height != d.height {
		return d.sizeError(c.Width, c.Height)
	}
	img, _, err := e.mjpeg.Decode(b, d.width, d.height)
	if err != nil {
		return err
	}
	switch img := img.(type) {
	case *image.Gray:
		rows(d.y, d.stride, img.Pix, img.Stride, d.width, d.height)
		d.grey()
	case *image.YCbCr:
		return d.take(img)
	default:
		return fmt.Errorf("a picture that is a %T", img)
	}
	return nil
}

// take copies a picture and makes it 4:2:0.
func (d *Decoder) take(img *image.YCbCr) error {
	rows(d.y, d.stride, img.Y, img.YStride, d.width, d.height)
	w, h := d.width, d.height
	switch img.SubsampleRatio {
	case image.YCbCrSubsampleRatio420:
		w, h = (w+1)/2, (h+1)/2
		rows(d.out.Cb, w, img.Cb, img.CStride, w, h)
		rows(d.out.Cr, w, img.Cr, img.CStride, w, h)
		return nil
	case image.YCbCrSubsampleRatio444:
	case image.YCbCrSubsampleRatio422:
		w = (w + 1) / 2
	case image.YCbCrSubsampleRatio440:
		h = (h + 1) / 2
	case image.YCbCrSubsampleRatio411:
		w = (w + 3) / 4
	default:
		return fmt.Errorf("colours arranged as %v", img.SubsampleRatio)
	}
	d.shrink(d.out.Cb, img.Cb, img.CStride, w, h)
	d.shrink(d.out.Cr, img.Cr, img.CStride, w, h)
	return nil
}

func rows(dst []byte, dstStride int, src []byte, srcStride, w, h int) {
	for y := range h {
		copy(dst[y*dstStride:][:w], src[y*srcStride:])
	}
}
