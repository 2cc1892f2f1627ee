package rtsp

import (
	"time"

	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"

	"edged/capture"
)

// ntpTrust is how far the camera's clock may be behind ours before its sender
// reports are not believed.
const ntpTrust = 10 * time.Second

// feed turns the packets of one session into frames. All methods are called
// from one goroutine: the library's reader of RTP.
type feed struct {
	sink      capture.Sink
	units     assembler
	params    capture.H264Params
	pack      *capture.Packetizer
	described capture.Track
	frame     capture.Frame
	ntp       func(*rtp.Packet) (time.Time, bool) // when the packet was sampled, by the camera's clock
}

func newFeed(sink capture.Sink) (*feed, error) {
	pack, err := capture.NewPacketizer(capture.H264)
	if err != nil {
		return nil, err
	}
	f := &feed{sink: sink, pack: pack}
	f.units.out, f.units.captured = f.unit, func(p *rtp.Packet) time.Time { return f.sampled(p, time.Now()) }
	return f, nil
}

// announce takes the parameter sets of the session description, if it has
// any that make sense; many cameras send others in band.
func (f *feed) announce(forma *format.H264) {
	if len(forma.SPS) > 0 && len(forma.PPS) > 0 {
		_, _ = f.params.Observe([][]byte{forma.SPS, forma.PPS})
	}
}

// sampled is when the scene was seen: by the camera's own clock where that is
// plausible, else the time of arrival.
func (f *feed) sampled(p *rtp.Packet, now time.Time) time.Time {
	if f.ntp == nil {
		return now
	}
	t, ok := f.ntp(p)
	if !ok || t.After(now) || now.Sub(t) > ntpTrust {
		return now
	}
	return t
}

// unit sends one access unit on. Nothing goes out before the size of the
// picture is known.
func (f *feed) unit(u unit) error {
	if _, err := f.params.Observe(u.nalus); err != nil {
		return err
	}
	track, ok := f.params.Track()
	if !ok {
		return nil
	}
	if track != f.described {
		f.described = track
		f.sink.Describe([]capture.Track{track})
	}
	f.frame.RTPTime, f.frame.Captured, f.frame.Lost = u.rtpTime, u.captured, u.lost
	f.pack.H264(f.params.Complete(u.nalus), &f.frame)
	if len(f.frame.Payloads) > 0 {
		f.sink.Frame(&f.frame)
	}
	return nil
}
