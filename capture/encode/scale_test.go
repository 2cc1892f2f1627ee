package encode

import (
	"bytes"
	"fmt"
	"image"
	"math/rand/v2"
	"testing"
)

// plainHalf is what halve must do, a sample at a time.
func plainHalf(src []byte, stride, w, h int) []byte {
	out := make([]byte, 0, w*h)
	for y := range h {
		for x := range w {
			sum := 2
			for _, at := range []int{2*y*stride + 2*x, 2*y*stride + 2*x + 1, (2*y+1)*stride + 2*x, (2*y+1)*stride + 2*x + 1} {
				sum += int(src[at])
			}
			out = append(out, byte(sum/4))
		}
	}
	return out
}

func rows(b []byte, stride, w, h int) []byte {
	out := make([]byte, 0, w*h)
	for y := range h {
		out = append(out, b[y*stride:][:w]...)
	}
	return out
}

func randomPicture(w, h, pad int) *image.YCbCr {
	img := image.NewYCbCr(image.Rect(0, 0, w+pad, h), image.YCbCrSubsampleRatio420)
	random := rand.New(rand.NewPCG(1, uint64(w)))
	for _, plane := range [][]byte{img.Y, img.Cb, img.Cr} {
		for i := range plane {
			plane[i] = byte(random.Uint32())
		}
		plane[0], plane[1], plane[len(plane)-1] = 255, 255, 255
	}
	return img.SubImage(image.Rect(0, 0, w, h)).(*image.YCbCr)
}

func TestHalve(t *testing.T) {
	for _, tt := range []struct{ w, h, pad int }{
		{1280, 720, 0}, {640, 360, 64}, {322, 182, 0}, {1366, 768, 0}, {130, 66, 2}, {4, 4, 0}, {20, 12, 0},
	} {
		t.Run(fmt.Sprint(tt), func(t *testing.T) {
			src := randomPicture(tt.w, tt.h, tt.pad)
			w, h := tt.w/2&^1, tt.h/2&^1
			dst := image.NewYCbCr(image.Rect(0, 0, w, h), image.YCbCrSubsampleRatio420)
			halve(dst, src)
			for name, p := range map[string]struct {
				src, dst          []byte
				from, to, wide, h int
			}{
				"Y":  {src.Y, dst.Y, src.YStride, dst.YStride, w, h},
				"Cb": {src.Cb, dst.Cb, src.CStride, dst.CStride, w / 2, h / 2},
				"Cr": {src.Cr, dst.Cr, src.CStride, dst.CStride, w / 2, h / 2},
			} {
				if want, got := plainHalf(p.src, p.from, p.wide, p.h), rows(p.dst, p.to, p.wide, p.h); !bytes.Equal(got, want) {
					t.Errorf("%s is not the mean of two by two", name)
				}
			}
		})
	}
}

// The lanes of a word must not run over: the brightest samples of all.
func TestHalveBright(t *testing.T) {
	bright := bytes.Repeat([]byte{255}, 64)
	dst := make([]byte, 32)
	halveRows(dst, bright, bright)
	if !bytes.Equal(dst, bright[:32]) {
		t.Errorf("% x", dst)
	}
}

func TestHalveAllocates(t *testing.T) {
	src := randomPicture(320, 180, 0)
	dst := image.NewYCbCr(image.Rect(0, 0, 160, 90), image.YCbCrSubsampleRatio420)
	if n := testing.AllocsPerRun(10, func() { halve(dst, src) }); n != 0 {
		t.Errorf("%v allocations a picture", n)
	}
}

func BenchmarkHalve720p(b *testing.B) {
	src := randomPicture(1280, 720, 0)
	dst := image.NewYCbCr(image.Rect(0, 0, 640, 360), image.YCbCrSubsampleRatio420)
	b.SetBytes(int64(len(src.Y) + len(src.Cb) + len(src.Cr)))
	b.ReportAllocs()
	for b.Loop() {
		halve(dst, src)
	}
}
