package mic

import (
	"encoding/binary"
	"time"

	"github.com/thesyncim/gopus"

	"edged/capture"
)

const (
	frameSamples = outRate / 50 // 20 ms
	heard        = 2            // channels that are sent, at most
	maxChannels  = 32           // of a device
	bitrate      = 32_000       // bits/s of a channel
	complexity   = 5            // of 10: 0.12 ms a frame of a server's core, 0.28 ms at 10
)

// Track is how the sound is described: the same with one channel and with two
// (RFC 7587 §4.1, §7).
var Track = capture.Track{Kind: capture.Audio, Codec: capture.Opus, ClockRate: outRate}

// voice makes frames of samples. It outlives a device, so that times go on
// when the next one speaks.
type voice struct {
	clock   clock
	rtpTime uint32 // of the next frame
	lost    bool   // samples are missing before the next

	// of the device
	mode
	channels int // that are sent
	filter   *resampler
	encoder  *gopus.Encoder
	in       []float32 // a chunk, at the device's rate
	pending  []float32 // at 48 kHz, not yet a frame
	frame    capture.Frame
	packet   [capture.MaxPayload]byte
}

// begin makes ready for a device.
func (v *voice) begin(m mode) (err error) {
	v.drop()
	v.mode, v.channels = m, min(m.channels, heard)
	v.filter = newResampler(m.rate, v.channels)
	v.lost, v.clock.rate = true, m.rate
	v.frame = capture.Frame{Keyframe: true, Payloads: make([][]byte, 1)}
	v.encoder, err = newEncoder(v.channels)
	return err
}

// newEncoder sends all the time: without DTX, for a gap would look like a
// failure. In-band repair of losses is off because this encoder's distorts: of
// a tone in two channels a quarter was lost, or all.
func newEncoder(channels int) (*gopus.Encoder, error) {
	e, err := gopus.NewEncoder(gopus.EncoderConfig{SampleRate: outRate, Channels: channels, Application: gopus.ApplicationAudio})
	if err == nil {
		err = e.SetBitrate(bitrate * channels)
	}
	if err == nil {
		err = e.SetComplexity(complexity)
	}
	if err != nil {
		return nil, capture.Errorf(capture.CodeEncoder, "Opus: %w", err)
	}
	e.SetDTX(false)
	e.SetFEC(false)
	return e, nil
}

// add takes samples whose first was heard at a moment, as far as the device
// can tell, and delivers the frames that are complete.
func (v *voice) add(raw []byte, heardAt time.Time, sink capture.Sink) error {
	v.in = v.decode(v.in[:0], raw)
	if v.lost {
		v.drop()
		v.rtpTime += uint32(v.clock.skip(heardAt) * outRate / time.Second)
		v.frame.Lost, v.lost = true, false
	}
	at := v.clock.at(heardAt, len(v.in)/v.channels)
	// What comes out of a decoder comes by the encoder's look-ahead later.
	behind := len(v.pending)/v.channels + v.filter.lag() + v.encoder.Lookahead()
	at = at.Add(-samples(behind))
	v.pending = v.filter.add(v.pending, v.in)
	size := frameSamples * v.channels
	done := 0
	for ; done+size <= len(v.pending); done += size {
		if err := v.send(v.pending[done:done+size], at, sink); err != nil {
			return err
		}
		at = at.Add(samples(frameSamples))
	}
	v.pending = v.pending[:copy(v.pending, v.pending[done:])]
	return nil
}

// drop forgets samples that are not yet a frame, but not that they took time.
func (v *voice) drop() {
	if v.channels == 0 {
		return // no device yet
	}
	v.rtpTime += uint32(len(v.pending)/v.channels + v.filter.lag())
	v.pending = v.pending[:0]
	v.filter.reset()
}

func (v *voice) send(pcm []float32, at time.Time, sink capture.Sink) error {
	n, err := v.encoder.Encode(pcm, v.packet[:])
	if err != nil {
		return capture.Errorf(capture.CodeEncoder, "Opus: %w", err)
	}
	v.frame.RTPTime, v.frame.Captured = v.rtpTime, at
	v.rtpTime += frameSamples
	if n == 0 {
		return nil
	}
	v.frame.Payloads[0] = v.packet[:n]
	sink.Frame(&v.frame)
	v.frame.Lost = false
	return nil
}

// decode appends the channels that are sent, as numbers from -1 to 1.
func (v *voice) decode(dst []float32, raw []byte) []float32 {
	stride := v.frameBytes()
	for ; len(raw) >= stride; raw = raw[stride:] {
		for c := range v.channels {
			dst = append(dst, v.format.sample(raw[c*v.format.bytes:]))
		}
	}
	return dst
}

// sample reads one.
func (f format) sample(b []byte) float32 {
	switch f.bytes {
	case 2:
		return float32(int16(binary.LittleEndian.Uint16(b))) / (1 << 15)
	case 3:
		return float32(int32(uint32(b[0])<<8|uint32(b[1])<<16|uint32(b[2])<<24)) / (1 << 31)
	}
	return float32(int32(binary.LittleEndian.Uint32(b))) / (1 << 31)
}

// samples is the time that so many last at 48 kHz.
func samples(n int) time.Duration { return time.Duration(n) * time.Second / outRate }

// clock smooths the moments at which a device says that samples were heard:
// those come in steps of its transfers and late from a busy kernel, while
// samples come evenly, and none is missing that the device does not own up to.
// What drifts between the two clocks is followed slowly.
type clock struct {
	rate int
	next time.Time // when the next sample is due
}

const (
	maxStray = 100 * time.Millisecond // that one measurement is believed
	inertia  = 64                     // chunks
)

// skip sets the clock where samples are missing, and gives how long they took.
func (c *clock) skip(measured time.Time) (gap time.Duration) {
	if !c.next.IsZero() {
		gap = max(0, measured.Sub(c.next))
	}
	if c.next.IsZero() || gap > 0 {
		c.next = measured
	}
	return gap
}

// at gives the moment of the first of n samples.
func (c *clock) at(measured time.Time, n int) time.Time {
	stray := min(maxStray, max(-maxStray, measured.Sub(c.next)))
	at := c.next.Add(stray / inertia)
	c.next = at.Add(time.Duration(n) * time.Second / time.Duration(c.rate))
	return at
}
