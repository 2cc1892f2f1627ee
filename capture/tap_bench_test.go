package capture

import (
	"image"
	"testing"
)

func BenchmarkShrinkLuma(b *testing.B) {
	src := image.NewYCbCr(image.Rect(0, 0, 1280, 720), image.YCbCrSubsampleRatio420)
	dst := image.NewGray(image.Rect(0, 0, LookWidth, LookHeight))
	b.ReportAllocs()
	for b.Loop() {
		shrinkLuma(dst, src)
	}
}
