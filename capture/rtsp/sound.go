package rtsp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bluenviron/gortsplib/v5"
	"github.com/bluenviron/gortsplib/v5/pkg/base"
	"github.com/bluenviron/gortsplib/v5/pkg/description"
	"github.com/bluenviron/gortsplib/v5/pkg/format"
	"github.com/pion/rtp"

	"edged/capture"
	"edged/capture/receive"
)

// sound forwards the packets of a camera's sound as they come. Its methods
// are called from one goroutine: the library's reader of that medium.
type sound struct {
	sink  capture.Sink
	track capture.Track
	clock receive.Clock
	frame capture.Frame
	next  uint16
	begun bool
}

// listen has the camera send its sound, where it has one that can be
// forwarded; where not, the sink is told why, and the pictures go on.
func (s *session) listen(c *gortsplib.Client, desc *description.Session, all *receive.Clocks, sink capture.SoundSink) {
	media, forma, track, err := pickSound(desc)
	if err == nil {
		err = setUpSound(c, desc.BaseURL, media)
	}
	if err != nil {
		sink.SoundFailed(err)
		return
	}
	w := &sound{sink: sink, track: track, clock: receive.Clock{All: all, Rate: int(track.ClockRate)}}
	w.clock.NTP = func(p *rtp.Packet) (time.Time, bool) { return c.PacketNTP(media, p) }
	w.frame.Keyframe = true
	sink.Describe([]capture.Track{track})
	c.OnPacketRTP(media, forma, func(p *rtp.Packet) {
		if !standsIn(p) {
			w.push(p, time.Now())
		}
	})
}

func setUpSound(c *gortsplib.Client, url *base.URL, media *description.Media) error {
	if _, err := c.Setup(url, media, 0, 0); err != nil {
		why := fault(err)
		return capture.Errorf(why.Code, "the camera's sound: %w", why)
	}
	return nil
}

// pickSound finds the sound to forward, or says what the camera has instead.
func pickSound(desc *description.Session) (*description.Media, format.Format, capture.Track, error) {
	var names []string
	for _, m := range desc.Medias {
		if m.Type != description.MediaTypeAudio || m.IsBackChannel {
			continue
		}
		for _, f := range m.Formats {
			if track, ok := soundTrack(f); ok {
				return m, f, track, nil
			}
			if name := soundName(f); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	if len(names) == 0 {
		return nil, nil, capture.Track{}, capture.Errorf(capture.CodeNotFound, "the camera offers no sound")
	}
	return nil, nil, capture.Track{}, capture.Errorf(capture.CodeCodec,
		"the camera's sound is %s, which is not forwarded: set it to Opus or G.711", strings.Join(names, ", "))
}

// soundName names a format for people.
func soundName(f format.Format) string {
	name, rest, _ := strings.Cut(f.RTPMap(), "/")
	switch strings.ToLower(name) {
	case "":
		return fmt.Sprintf("payload type %d", f.PayloadType())
	case "mpeg4-generic", "mp4a-latm": // RFC 3640, RFC 6416
		return "AAC"
	}
	return fmt.Sprintf("%.40s at %.20s Hz", name, rest)
}

// soundTrack describes a format that viewers decode.
func soundTrack(f format.Format) (capture.Track, bool) {
	t := capture.Track{Kind: capture.Audio, ClockRate: uint32(max(0, f.ClockRate()))}
	switch f := f.(type) {
	case *format.Opus:
		t.Codec = capture.Opus
		if f.ChannelCount == 2 {
			t.Fmtp = "sprop-stereo=1" // RFC 7587 §6.1
		}
		return t, f.ChannelCount <= 2
	case *format.G711:
		t.Codec = capture.PCMA
		if f.MULaw {
			t.Codec = capture.PCMU
		}
		return t, f.SampleRate == 8000 && f.ChannelCount == 1
	}
	return t, false
}

// push takes the next packet. One that is too large for viewers is cut where
// it is made of samples, else left out.
func (w *sound) push(p *rtp.Packet, now time.Time) {
	lost := w.begun && p.SequenceNumber != w.next
	w.begun, w.next = true, p.SequenceNumber+1
	w.frame.Lost = w.frame.Lost || lost
	if len(p.Payload) == 0 || len(p.Payload) > capture.MaxPayload && w.track.Codec == capture.Opus {
		return
	}
	w.frame.RTPTime, w.frame.Captured = p.Timestamp, w.clock.Captured(p, now)
	for piece := range slices.Chunk(p.Payload, capture.MaxPayload) {
		w.frame.Payloads = append(w.frame.Payloads[:0], piece)
		w.sink.Frame(&w.frame)
		w.frame.Lost = false
		w.frame.RTPTime += uint32(len(piece)) // a byte a sample
		w.frame.Captured = w.frame.Captured.Add(time.Duration(len(piece)) * time.Second / time.Duration(w.track.ClockRate))
	}
	w.frame.Payloads = w.frame.Payloads[:0]
}
