//go:build !cgo || !linux || (!amd64 && !arm64 && !arm.7)

package decode

import (
	"image"
	"runtime"

	"edged/capture"
)

// h264Name is the decoder of this build: none.
const h264Name = ""

func decodeH264([]byte) (*image.YCbCr, error) {
	return nil, capture.Errorf(capture.CodeCodec, "this build (%s, without C or for a processor before ARMv7) has no decoder for it", runtime.GOARCH)
}
