package snapshot

import "image"

// Video is 16..235 for luma and 16..240 for chroma (ITU-R BT.601), JPEG takes
// all of a byte (JFIF 1.02).
var (
	fullLuma   = stretch(16, 219, 0)
	fullChroma = stretch(128, 224, 128)
)

func stretch(zero, span, at int) (table [256]byte) {
	for v := range table {
		table[v] = byte(max(0, min(255, at+((v-zero)*255*2+span)/(2*span))))
	}
	return table
}

// shrink makes the picture that a JPEG takes, its width and height halved so
// many times, rounded down: each sample is the mean of those it covers.
func shrink(src *image.YCbCr, halvings int) *image.YCbCr {
	step := 1 << halvings
	size := src.Rect.Size().Div(step)
	size.X, size.Y = max(1, size.X), max(1, size.Y)
	dst := image.NewYCbCr(image.Rectangle{Max: size}, image.YCbCrSubsampleRatio420)
	chroma := image.Pt((src.Rect.Dx()+1)/2, (src.Rect.Dy()+1)/2)
	shrinkPlane(dst.Y, dst.YStride, size, plane{src.Y, src.YStride, src.Rect.Size()}, step, &fullLuma)
	half := size.Add(image.Pt(1, 1)).Div(2)
	shrinkPlane(dst.Cb, dst.CStride, half, plane{src.Cb, src.CStride, chroma}, step, &fullChroma)
	shrinkPlane(dst.Cr, dst.CStride, half, plane{src.Cr, src.CStride, chroma}, step, &fullChroma)
	return dst
}

type plane struct {
	samples []byte
	stride  int
	size    image.Point
}

func shrinkPlane(dst []byte, stride int, size image.Point, src plane, step int, table *[256]byte) {
	for y := range size.Y {
		for x := range size.X {
			sum, n := 0, 0
			for sy := y * step; sy < min((y+1)*step, src.size.Y); sy++ {
				for _, v := range src.samples[sy*src.stride:][min(x*step, src.size.X):min((x+1)*step, src.size.X)] {
					sum, n = sum+int(v), n+1
				}
			}
			if n > 0 {
				dst[y*stride+x] = table[(sum+n/2)/n]
			}
		}
	}
}
