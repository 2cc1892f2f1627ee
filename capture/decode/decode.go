// Package decode turns a keyframe that a camera encoded into a picture: for
// snapshots and for what looks at the scene, never on the way to a viewer.
//
// What it is given comes from cameras, which are strangers: only the parts of
// a keyframe reach a decoder, by a decoder that has seen nothing before, and
// only where the stream's own words promise a picture of bounded size.
package decode

import (
	"bytes"
	"fmt"
	"image"

	"github.com/pion/rtp/codecs"
	"golang.org/x/image/vp8"

	"edged/capture"
)

// The largest picture that is decoded, in pixels.
const (
	MaxWidth  = 4096
	MaxHeight = 2304
)

// Keyframe decodes a keyframe that is cut into RTP payloads as
// [capture.Frame] has them. It blocks for as long as that takes, some
// milliseconds a megapixel, and may be called from any goroutine. The picture
// is 4:2:0 and belongs to the caller. The error has [capture.CodeCodec] where
// this build has no decoder for the codec, [capture.CodeProtocol] where the
// keyframe is none or is damaged.
func Keyframe(c capture.Codec, payloads [][]byte) (img *image.YCbCr, err error) {
	defer func() {
		if v := recover(); v != nil { // the decoder of VP8 is written for files
			img, err = nil, capture.Errorf(capture.CodeProtocol, "decode %s: panic: %v", c, v)
		}
	}()
	switch c {
	case capture.H264:
		img, err = h264(payloads)
	case capture.VP8:
		img, err = vp8Keyframe(payloads)
	default:
		return nil, capture.Errorf(capture.CodeCodec, "decode: this build has no decoder for %s", c)
	}
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", c, err)
	}
	return img, nil
}

// Can tells whether this build has a decoder for a codec.
func Can(c capture.Codec) bool {
	return c == capture.H264 && h264Name != "" || c == capture.VP8
}

func h264(payloads [][]byte) (*image.YCbCr, error) {
	var stream []byte
	var packet codecs.H264Packet
	for _, p := range payloads {
		part, err := packet.Unmarshal(p)
		if err != nil {
			return nil, capture.Errorf(capture.CodeProtocol, "%w", err)
		}
		stream = append(stream, part...)
	}
	unit, err := bareKeyframe(capture.SplitAnnexB(nil, stream))
	if err != nil {
		return nil, err
	}
	return decodeH264(unit)
}

// bareKeyframe is the unit's parameter sets and IDR slices as a byte stream:
// nothing else is for the decoder to see (ITU-T H.264 table 7-1).
func bareKeyframe(nalus [][]byte) ([]byte, error) {
	var params capture.H264Params
	if _, err := params.Observe(nalus); err != nil {
		return nil, err
	}
	t, ok := params.Track()
	switch {
	case !ok || !capture.H264HasIDR(nalus):
		return nil, capture.Errorf(capture.CodeProtocol, "no keyframe with its parameter sets")
	case t.Width <= 0 || t.Height <= 0 || t.Width > MaxWidth || t.Height > MaxHeight:
		return nil, capture.Errorf(capture.CodeProtocol, "a picture of %d × %d, at most %d × %d is decoded", t.Width, t.Height, MaxWidth, MaxHeight)
	}
	const idr, sps, pps = 5, 7, 8
	var unit []byte
	for _, n := range nalus {
		if t := n[0] & 0x1f; t == idr || t == sps || t == pps {
			unit = append(append(unit, 0, 0, 0, 1), n...)
		}
	}
	return unit, nil
}

func vp8Keyframe(payloads [][]byte) (*image.YCbCr, error) {
	var frame []byte
	for _, p := range payloads {
		var packet codecs.VP8Packet
		part, err := packet.Unmarshal(p)
		if err != nil {
			return nil, capture.Errorf(capture.CodeProtocol, "%w", err)
		}
		frame = append(frame, part...)
	}
	d := vp8.NewDecoder()
	d.Init(bytes.NewReader(frame), len(frame))
	h, err := d.DecodeFrameHeader()
	if err != nil {
		return nil, capture.Errorf(capture.CodeProtocol, "%w", err)
	}
	if !h.KeyFrame || h.Width <= 0 || h.Height <= 0 || h.Width > MaxWidth || h.Height > MaxHeight {
		return nil, capture.Errorf(capture.CodeProtocol, "no keyframe of at most %d × %d", MaxWidth, MaxHeight)
	}
	img, err := d.DecodeFrame()
	if err != nil {
		return nil, capture.Errorf(capture.CodeProtocol, "%w", err)
	}
	return img, nil
}
