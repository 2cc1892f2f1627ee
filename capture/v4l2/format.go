package v4l2

import (
	"errors"
	"fmt"
	"image"
	"slices"

	"edged/capture"
)

// format is a way in which pictures lie in memory, or are compressed.
type format struct {
	fourcc uint32
	name   string        // as mediadevices calls it
	codec  capture.Codec // of what is passed through as it comes
	jpeg   bool
	layout layout
	apart  bool // each area in a piece of memory of its own
	unpack func(dst *image.YCbCr, src samples)
}

// layout is how many areas of memory a picture has.
type layout int

const (
	packed layout = iota // all in one
	pairs                // luma; chroma in pairs
	planar               // luma; Cb; Cr
)

func fourcc(s string) uint32 {
	return uint32(s[0]) | uint32(s[1])<<8 | uint32(s[2])<<16 | uint32(s[3])<<24
}

// formats that can be used, the cheapest first: what the camera encodes costs
// nothing. MJPEG costs more than all other pictures together, but over USB 2
// it is often the only one at full rate. Many viewers cannot decode H.265.
var formats = []format{
	{fourcc: fourcc("H264"), name: "H264", codec: capture.H264},
	{fourcc: fourcc("YU12"), name: "I420", layout: planar, unpack: unpackI420},
	{fourcc: fourcc("YM12"), name: "I420", layout: planar, apart: true, unpack: unpackI420},
	{fourcc: fourcc("NV12"), name: "NV12", layout: pairs, unpack: unpackNV12},
	{fourcc: fourcc("NM12"), name: "NV12", layout: pairs, apart: true, unpack: unpackNV12},
	{fourcc: fourcc("NV21"), name: "NV21", layout: pairs, unpack: unpackNV21},
	{fourcc: fourcc("NM21"), name: "NV21", layout: pairs, apart: true, unpack: unpackNV21},
	{fourcc: fourcc("YUYV"), name: "YUYV", unpack: unpackYUYV},
	{fourcc: fourcc("UYVY"), name: "UYVY", unpack: unpackUYVY},
	{fourcc: fourcc("MJPG"), name: "MJPEG", jpeg: true},
	{fourcc: fourcc("JPEG"), name: "MJPEG", jpeg: true},
	{fourcc: fourcc("HEVC"), name: "H265", codec: capture.H265},
}

// formatOf finds a format by what the driver calls it; nil: not one that can
// be used.
func formatOf(fourcc uint32) *format {
	i := slices.IndexFunc(formats, func(f format) bool { return f.fourcc == fourcc })
	if i < 0 {
		return nil
	}
	return &formats[i]
}

// fourccName is what people call a format.
func fourccName(f uint32) string {
	return fmt.Sprintf("%q", string([]byte{byte(f), byte(f >> 8), byte(f >> 16), byte(f >> 24)}))
}

// samples is a picture as the driver left it: luma and chroma, or all in one,
// and how far it is from one row to the next, in bytes.
type samples struct {
	area   [3][]byte
	stride [3]int
}

// locate finds the areas of a raw picture of width × height in the pieces of
// memory that a buffer has. strides are those that the driver told, of each
// piece; 0 where it did not.
func (f *format) locate(memory [][]byte, strides []int, width, height int) (s samples, err error) {
	half := (width + 1) / 2
	widths := [...][]int{packed: {4 * half}, pairs: {width, 2 * half}, planar: {width, half, half}}[f.layout] // in bytes
	luma := max(strides[0], widths[0])
	at := 0
	for i, w := range widths {
		stride, rows := luma, height
		if i > 0 {
			rows = (height + 1) / 2
		}
		if i > 0 && f.layout == planar {
			stride = (luma + 1) / 2
		}
		if f.apart && i < len(strides) {
			stride = strides[i]
		}
		s.stride[i] = max(stride, w)
		if f.apart {
			s.area[i], err = take(memory, i, 0, s.stride[i], w, rows)
		} else { // one behind the other
			s.area[i], err = take(memory, 0, at, s.stride[i], w, rows)
		}
		if err != nil {
			return samples{}, err
		}
		at += s.stride[i] * rows
	}
	return s, nil
}

// errShort is a picture that ends before it is whole.
var errShort = errors.New("a picture that is not whole")

// take cuts an area out of one piece of memory; its last row may be as short
// as its samples.
func take(memory [][]byte, piece, at, stride, width, rows int) ([]byte, error) {
	if piece >= len(memory) {
		return nil, errShort
	}
	b := memory[piece]
	end := at + stride*(rows-1) + width
	if rows < 1 || at < 0 || end > len(b) {
		return nil, errShort
	}
	return b[at:end], nil
}
