package ingest

import (
	"encoding/binary"
	"time"

	"github.com/pion/rtcp"
	"github.com/pion/rtp"

	"edged/capture"
	"edged/capture/receive"
)

const (
	keyframePause = 500 * time.Millisecond // at most one request in this time
	keyframeRetry = time.Second            // for the first keyframe
)

// encoding is one encoding of the scene, or the sound, as it comes.
type encoding struct {
	s      *Session
	format Format
	rid    string // empty: there is one

	ssrc, rtx uint32 // 0: not known yet
	order     *reorder
	report    reception
	told      mapping // by the newest sender report
	clock     receive.Clock
	at        time.Time // when the packet that is being taken arrived

	units  receive.Assembler  // of pictures
	stream *capture.Bitstream // likewise
	place  place              // likewise: on the timeline that the layers share
	track  capture.Track      // Codec is empty while too little is known
	index  int                // of its track, as described; -1: it is not
	fresh  bool               // no keyframe since it was described

	frame  capture.Frame
	lost   bool      // since the last frame
	last   time.Time // when that came
	missed bool      // the sink knows that none comes
	asked  time.Time // when a keyframe was asked for
}

func newEncoding(s *Session, f Format, rid string) *encoding {
	e := &encoding{s: s, format: f, rid: rid, index: -1}
	e.clock = receive.Clock{All: &s.clocks, Rate: int(f.ClockRate), NTP: e.sampled}
	hold := holdBriefly
	if f.NACK {
		hold = holdRepair
	}
	if f.Kind == capture.Audio {
		e.order = newReorder(min(hold, holdSound), e.heard)
		e.track = capture.Track{Kind: capture.Audio, Codec: f.Codec, ClockRate: f.ClockRate, Fmtp: f.Fmtp}
		return e
	}
	e.order = newReorder(hold, e.push)
	e.begin()
	return e
}

// begin readies the encoding for pictures that have nothing to do with those
// before.
func (e *encoding) begin() {
	e.units = receive.Assembler{Out: e.unit, Captured: func(p *rtp.Packet) time.Time { return e.clock.Captured(p, e.at) }}
	e.units.Begin(e.format.Codec)
	e.stream, _ = capture.NewBitstream(e.format.Codec) // never nil: no other was negotiated
	e.track = capture.Track{}
}

// sampled is the publisher's time of a packet, by its sender reports.
func (e *encoding) sampled(p *rtp.Packet) (time.Time, bool) {
	return e.told.time(p.Timestamp, e.format.ClockRate), e.told.known
}

// adopt takes an SSRC for the encoding's own. One that replaces another
// begins anew.
func (e *encoding) adopt(ssrc uint32, rtx bool) {
	if rtx {
		e.rtx = ssrc
		return
	}
	again := e.ssrc != 0
	e.ssrc, e.report, e.told = ssrc, reception{}, mapping{}
	e.order.restart()
	e.clock = receive.Clock{All: e.clock.All, Rate: e.clock.Rate, NTP: e.sampled}
	e.place = place{}
	if again && e.format.Kind == capture.Video {
		e.begin()
		e.lost = true
	}
}

// repaired makes of a packet of RTX the one that it repeats (RFC 4588 §4). It
// reports whether there is one: padding is sent the same way.
func (e *encoding) repaired(p *rtp.Packet) bool {
	if e.ssrc == 0 || len(p.Payload) <= 2 {
		return false
	}
	p.SequenceNumber = binary.BigEndian.Uint16(p.Payload)
	p.Payload, p.SSRC = p.Payload[2:], e.ssrc
	return true
}

// ask asks for the packets that are missing (RFC 4585 §6.2.1), and for the
// first keyframe.
func (e *encoding) ask(now time.Time) {
	if e.ssrc == 0 {
		return
	}
	if e.format.NACK {
		if missing := e.order.due(now); len(missing) > 0 {
			e.s.send(&rtcp.TransportLayerNack{SenderSSRC: e.s.ssrc, MediaSSRC: e.ssrc, Nacks: rtcp.NackPairsFromSequenceNumbers(missing)})
		}
	}
	first := e.track.Codec == "" || e.index >= 0 && e.fresh
	if first && now.Sub(e.asked) >= keyframeRetry {
		e.askKeyframe(now)
	}
}

// askKeyframe sends a PLI (RFC 4585 §6.3.1).
func (e *encoding) askKeyframe(now time.Time) {
	e.asked = now
	e.s.send(&rtcp.PictureLossIndication{SenderSSRC: e.s.ssrc, MediaSSRC: e.ssrc})
}

// push takes the next packet of a picture.
func (e *encoding) push(p *rtp.Packet, at time.Time) error {
	e.at = at
	return e.units.Push(p)
}

// unit takes an access unit.
func (e *encoding) unit(u receive.Unit) error {
	e.lost = e.lost || u.Lost
	if err := e.stream.Observe(u.Parts); err != nil {
		return err
	}
	track, ok := e.stream.Track()
	if !ok {
		return nil
	}
	if err := e.stream.Pack(u.Parts, &e.frame); err != nil {
		return err
	}
	if len(e.frame.Payloads) == 0 {
		return nil
	}
	if track.Layer = max(0, e.index); track != e.track {
		e.track = track
		e.s.layers.changed = true
		e.s.describe(e.at)
	}
	if e.fresh && !e.frame.Keyframe {
		return nil
	}
	e.fresh = false
	e.deliver(e.place.on(&e.s.timeline, u.RTPTime, e.at), u.Captured)
	return nil
}

// heard takes the next packet of sound. One that is too large for viewers is
// left out.
func (e *encoding) heard(p *rtp.Packet, at time.Time) error {
	e.at = at
	captured := e.clock.Captured(p, at)
	if len(p.Payload) == 0 {
		return nil
	}
	if len(p.Payload) > capture.MaxPayload {
		e.lost = true
		return nil
	}
	if len(e.s.pictures) == 0 && e.index < 0 {
		e.s.layers.changed = true
		e.s.describe(at)
	}
	e.frame.Keyframe = true
	e.frame.Payloads = append(e.frame.Payloads[:0], p.Payload)
	e.deliver(p.Timestamp, captured)
	return nil
}

// deliver hands the frame on, if its track is described.
func (e *encoding) deliver(rtpTime uint32, captured time.Time) {
	if e.index < 0 {
		e.lost = true
		return
	}
	e.last, e.missed = e.at, false
	if e.format.Kind == capture.Video || len(e.s.pictures) == 0 {
		e.s.lastFrame, e.s.quiet = e.at, false
	}
	e.frame.Track, e.frame.RTPTime, e.frame.Captured, e.frame.Lost = e.index, rtpTime, captured, e.lost
	e.lost = false
	e.s.sink.Frame(&e.frame)
	clear(e.frame.Payloads)
}
