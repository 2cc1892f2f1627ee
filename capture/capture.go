// Package capture turns cameras into frames: every kind of camera behind one
// [Source], kept alive by one supervisor, [Camera].
//
// A source reads, encodes where the camera does not, cuts each access unit
// into RTP payloads and hands them to a [Sink], a frame at a time. It knows
// nothing of viewers.
package capture

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Codec is a media subtype as registered for RTP (RFC 4855), without the kind.
type Codec string

// The codecs that a source may deliver.
const (
	H264 Codec = "H264" // RFC 6184
	H265 Codec = "H265" // RFC 7798
	VP8  Codec = "VP8"  // RFC 7741
	VP9  Codec = "VP9"  // RFC 9628
	AV1  Codec = "AV1"
	Opus Codec = "opus" // RFC 7587
	PCMU Codec = "PCMU" // RFC 3551
	PCMA Codec = "PCMA" // RFC 3551
)

// Kind tells pictures from sound.
type Kind string

// The kinds of track.
const (
	Video Kind = "video"
	Audio Kind = "audio"
)

// MaxPayload is the most bytes that one RTP payload may have. With the RTP
// header (12), header extensions (4, and 3 for the transport-wide number, 4
// for the playout delay, 9 for the time of capture: 20), an RTX sequence
// number (2) and the SRTP tag (16) a packet has at most 1194 bytes of UDP
// payload, of 1200.
const MaxPayload = 1144

// MaxLayers is the most encodings of one scene that a camera makes, or is
// asked for.
const MaxLayers = 3

// Track describes one encoding that a source delivers.
type Track struct {
	Kind      Kind
	Layer     int    // video: 0 is the best encoding of the scene; audio: 0
	Codec     Codec  //
	ClockRate uint32 // Hz, of Frame.RTPTime
	Fmtp      string // SDP format parameters that a decoder must accept, e.g. "profile-level-id=42e01f;packetization-mode=1"
	Width     int    // pixels, 0 while unknown
	Height    int    // pixels, 0 while unknown
	Bitrate   int    // bits/s that the encoder is set to, where the source is a [RateControl]; else 0
}

// Frame is one access unit of a track (or one packet's worth of audio), cut
// into RTP payloads.
type Frame struct {
	Track       int       // index into the tracks last described to the sink
	RTPTime     uint32    // in the track's clock; any start, continuous while the source runs; the layers of one scene share one clock: what was seen at one moment has one time
	Captured    time.Time // wall clock when the scene was seen, or when the frame arrived if the camera does not say
	Keyframe    bool      // decodable without any frame before it (H.264: parameter sets included)
	Discardable bool      // no frame of this temporal layer or a lower one refers to it; false also where that is not known
	Temporal    uint8     // temporal layer, where the encoder marks them: frames refer only to this one and lower ones; 0 is the base
	Lost        bool      // one or more frames before this one were lost on the way in
	Payloads    [][]byte  // in order, each 1..MaxPayload bytes, all but the last of equal size where the format allows; the RTP marker belongs to the last
}

// Sink takes what a source delivers. A source calls it from one goroutine at
// a time. Neither method blocks, and neither retains its arguments' memory.
type Sink interface {
	// Describe announces the tracks, before the first frame and whenever a
	// codec, a size or a parameter changes.
	Describe(tracks []Track)
	// Frame delivers one frame of a described track.
	Frame(f *Frame)
}

// Source is a camera of some kind.
type Source interface {
	// Run delivers frames to the sink until ctx is done (then it returns nil)
	// or the camera fails (then the error wraps an [*Error] that says why).
	// It owns every goroutine it starts and returns when all have ended. It
	// is called again after a failure, never twice at once.
	Run(ctx context.Context, sink Sink) error
	// Keyframe asks for a keyframe of a layer as soon as the camera can. It
	// returns at once, may be called at any time from any goroutine, and does
	// nothing where the camera has no such means.
	Keyframe(layer int)
}

// LayerDemand is a [Source] of several layers that spares the work for those
// that nobody watches.
type LayerDemand interface {
	// Demand says whether anybody wants a video layer. Until it is called
	// all are wanted; what it said stays over runs. A layer that is not
	// wanted stays described; its frames end, at once or after a while, and
	// when it is wanted again begin with a keyframe. A source may go on with
	// a layer all the same: at least one always has frames, so that the
	// camera is seen to be alive. Demand returns at once, may be called at
	// any time from any goroutine, and ignores layers that there are not.
	Demand(layer int, wanted bool)
}

// RateControl is a [Source] that encodes and can change its bitrates.
type RateControl interface {
	// Bitrate sets the bitrate of a video layer, in bits/s, from one of the
	// next pictures on. More than the Bitrate of the layer's track counts as
	// that; what it said stays over runs. It returns at once, may be called
	// at any time from any goroutine, and ignores layers that there are not.
	Bitrate(layer, bits int)
}

// LayerSink is a [Sink] that hears of layers in trouble. The sink that
// [Camera] hands to its source is one.
type LayerSink interface {
	Sink
	// LayerFailed says why a video layer has no frames while the rest of the
	// camera goes on. It stands until a frame of that layer comes. Called as
	// Sink's methods are; the layer need not be described.
	LayerFailed(layer int, err error)
}

// SoundSink is a [Sink] that hears why a camera that is to have sound has
// none. The sink that [Camera] hands to its source is one.
type SoundSink interface {
	Sink
	// SoundFailed says why there is no sound while the pictures go on. It
	// stands until sound comes, or the source runs again. Called as Sink's
	// methods are.
	SoundFailed(err error)
}

// WaitingSink is a [Sink] that hears of a source that others send to. The sink
// that [Camera] hands to its source is one.
type WaitingSink interface {
	Sink
	// Waiting says why there are no pictures where that is no failure: nobody
	// sends any now. It stands until the next frame, whose RTP time need have
	// nothing to do with those before. Called as Sink's methods are.
	Waiting(err error)
}

// Code is a machine-readable reason for a camera's state, stable across
// releases: consoles branch on it.
type Code string

// The codes.
const (
	CodeUnreachable  Code = "unreachable"  // no route, no answer, name not found
	CodeRefused      Code = "refused"      // the connection, or the request, was refused
	CodeUnauthorized Code = "unauthorized" // wrong or missing credentials
	CodeNotFound     Code = "not_found"    // no such device, path or stream
	CodeProtocol     Code = "protocol"     // the camera's answer makes no sense
	CodeCodec        Code = "codec"        // a codec that cannot be forwarded, or that changed
	CodeStalled      Code = "stalled"      // connected, but frames do not advance
	CodeUnplugged    Code = "unplugged"    // the device, or the connection, went away
	CodeBusy         Code = "busy"         // somebody else uses the device
	CodeDenied       Code = "denied"       // the process may not open the device
	CodeEncoder      Code = "encoder"      // no encoder in this build, or it failed
	CodeMedia        Code = "media"        // a file that cannot be read as media
	CodePanic        Code = "panic"        // a fault of the program, from which it recovered
	CodeNoPublisher  Code = "no_publisher" // nobody sends pictures to the box
)

// Error says why a camera cannot deliver.
type Error struct {
	Code Code
	Err  error
	Soon bool // to try again costs next to nothing: nobody was there to be bothered
}

func (e *Error) Error() string { return e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [*Error]; the format may wrap with %w.
func Errorf(code Code, format string, a ...any) error {
	return &Error{Code: code, Err: fmt.Errorf(format, a...)}
}

// CodeOf finds the code in err's chain; CodeProtocol where there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeProtocol
}
