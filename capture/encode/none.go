//go:build !cgo || !linux || (!amd64 && !arm64 && !arm.7)

package encode

import (
	"runtime"

	"edged/capture"
)

// Name is the software encoder of this build, empty where there is none.
const Name = ""

func newSoftware(Config) (Encoder, error) {
	return nil, capture.Errorf(capture.CodeEncoder,
		"this build (%s, without C or for a processor before ARMv7) has no software encoder: use a camera that encodes", runtime.GOARCH)
}
