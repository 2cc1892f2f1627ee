//go:build !cgo || !linux

package v4l2

import "edged/capture"

func open(string) (device, error) {
	return nil, capture.Errorf(capture.CodeEncoder, "this build, without C, has neither driver nor encoder for V4L2 cameras")
}
