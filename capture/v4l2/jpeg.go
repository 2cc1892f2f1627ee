package v4l2

import (
	"bytes"
	"fmt"
	"image"
	"image/jpeg"

	"github.com/pion/mediadevices/pkg/frame"
)

// mjpeg adds the Huffman tables that cameras leave out of each picture.
var mjpeg = func() frame.Decoder {
	d, err := frame.NewDecoder(frame.FormatMJPEG)
	if err != nil {
		panic(fmt.Sprintf("v4l2: %v", err)) // a format that mediadevices has
	}
	return d
}()

// decodeJPEG decodes a picture that must have about this size: what a hostile
// header promises is not allocated.
func decodeJPEG(b []byte, width, height int) (image.Image, error) {
	c, err := jpeg.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if c.Width > width+16 || c.Height > height+16 {
		return nil, fmt.Errorf("a picture of %d × %d instead of %d × %d", c.Width, c.Height, width, height)
	}
	img, _, err := mjpeg.Decode(b, width, height)
	return img, err
}
