package rtsp

import (
	"slices"
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"

	"edged/capture"
	"edged/capture/receive"
)

// feed turns the packets of one session into frames. All methods are called
// from one goroutine: the library's reader of RTP.
type feed struct {
	sink      capture.Sink
	units     receive.Assembler
	stream    *capture.Bitstream
	described capture.Track
	alone     bool   // no other feed has packets of the session
	last      uint32 // RTP time of the last unit
	backward  int    // see ordered
	frame     capture.Frame
	clock     receive.Clock
}

func newFeed(sink capture.Sink, all *receive.Clocks) *feed {
	f := &feed{sink: sink, clock: receive.Clock{All: all}}
	f.units.Out, f.units.Captured = f.unit, func(p *rtp.Packet) time.Time { return f.clock.Captured(p, time.Now()) }
	return f
}

// begin readies the feed for a format that can be forwarded: see codecOf.
func (f *feed) begin(forma format.Format) (err error) {
	codec := codecOf(forma)
	if f.stream, err = capture.NewBitstream(codec); err != nil {
		return err
	}
	f.units.Begin(codec)
	f.clock.Rate = forma.ClockRate()
	f.announce(forma)
	return nil
}

// announce takes the parameter sets of the session description, if it has
// any that make sense; many cameras send others in band.
func (f *feed) announce(forma format.Format) {
	var sets [][]byte
	switch t := forma.(type) {
	case *format.H264:
		sets = [][]byte{t.SPS, t.PPS}
	case *format.H265:
		sets = [][]byte{t.VPS, t.SPS, t.PPS}
	}
	if !slices.ContainsFunc(sets, func(set []byte) bool { return len(set) == 0 }) {
		_ = f.stream.Observe(sets)
	}
}

// ordered finds B-frames: a picture that is shown before the one that was
// sent before it has an earlier time. A camera whose clock is set does so
// once; with B-frames one picture in four or more does.
func (f *feed) ordered(rtpTime uint32) error {
	const step, limit, reset = 4, 100, 90000 // a second: more is another clock
	back := int32(rtpTime-f.last) < 0 && int32(f.last-rtpTime) < reset
	f.last = rtpTime
	if !back {
		f.backward = max(0, f.backward-1)
		return nil
	}
	if f.backward += step; f.backward < limit {
		return nil
	}
	return capture.Errorf(capture.CodeCodec, "the camera sends B-frames, which WebRTC does not carry: turn them off in its encoder, or choose its Baseline profile")
}

// unit sends one access unit on. Nothing goes out before the size of the
// picture is known.
func (f *feed) unit(u receive.Unit) error {
	if err := f.stream.Observe(u.Parts); err != nil {
		return err
	}
	track, ok := f.stream.Track()
	if !ok {
		return nil
	}
	if err := f.ordered(u.RTPTime); err != nil {
		return err
	}
	f.frame.RTPTime, f.frame.Captured, f.frame.Lost = u.RTPTime, u.Captured, u.Lost
	if err := f.stream.Pack(u.Parts, &f.frame); err != nil {
		return err
	}
	if len(f.frame.Payloads) == 0 {
		return nil
	}
	if track != f.described {
		f.described = track
		f.sink.Describe([]capture.Track{track})
	}
	f.sink.Frame(&f.frame)
	return nil
}
